"""What a classifier makes of the digits that a network invents: of how many it is more than 90 % sure, and which it sees.

    python tests/parity/samples.py NNC FILE.nn WEIGHTS CLASSIFIER [SETTING=VALUE...]      needs pip install numpy

FILE has an answer `sample` of 64 images, as `dcgan.nn` has; CLASSIFIER are the weights of `mnist_cnn.nn`. 2,048 samples are
drawn, by the seeds 1 to 32, and rounded to the 256 values of a pixel."""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "dsl-examples"


def answered(nnc, *line):
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/answer.npy"
        words = [str(word) for word in (nnc, "run", *line, "--output", out)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return np.load(out)


def main(nnc, file, weights, classifier, *settings):
    chosen = ["--set", *settings] if settings else []
    sample = ["--answer", "sample", "--bind", "N=64", *chosen]
    drawn = [answered(nnc, file, "--weights", weights, *sample, "--seed", seed) for seed in range(1, 33)]
    pixels = np.round(255 * np.concatenate(drawn)[:, 0]).clip(0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/samples.npy", pixels)
        scores = answered(nnc, EXAMPLES / "mnist_cnn.nn", "--weights", classifier, "--input", f"{folder}/samples.npy")
    seen = np.bincount(scores.argmax(1), minlength=10)
    print(f"{len(pixels)} samples: sure of {100 * (scores.max(1) > 0.9).mean():.1f} %; of each digit {seen.tolist()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
