"""What each kind of fusion gains, on every reference model: `nnc bench --ablate`, as one table of Markdown.

    python benches/ablate.py [--seconds 0.3] [--only MODEL,...]

A row is a network at the rows of its bench; `all` is how many times as fast the fused program is as one without any fusion, a kind
as one without that kind alone; `launches` are the kernels of a run without and with fusion. A kind that takes no part leaves a
row's program as it is: its column is the noise of the row."""

import argparse
import json
import subprocess

import engines

MODELS = engines.HERE / "models"


def rows():
    """Each model by its name: its file, the rows of a call, whether a step of training is meant."""
    for name, (file, count, _) in engines.INFERENCE.items():
        yield name, MODELS / "inference" / file, count, False
    for name, (file, count, *_) in engines.TRAINING.items():
        yield name, MODELS / file, count, True


def measured(file, count, trains, seconds):
    """What `nnc bench` tells of one program."""
    command = [engines.TARGET / "release" / "nnc", "bench", file, "--ablate", "--json", "--seconds", seconds]
    command += ["--set", f"batch={count}"] if trains else ["--bind", f"N={count}"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise engines.Failed((done.stderr.strip().splitlines() or ["it failed"])[-1])
    return next(program for program in json.loads(done.stdout) if (program["program"] == "training step") == trains)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", default="0.3", help="of each measurement")
    parser.add_argument("--only", help="models, by commas")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else None
    kinds = None
    for name, file, count, trains in rows():
        if wanted and name not in wanted:
            continue
        try:
            found = measured(file, count, trains, options.seconds)
        except engines.Failed as why:
            print(f"{name}: {why}", flush=True)
            continue
        if kinds is None:
            kinds = [each["without"] for each in found["ablations"]]
            print("| program | all |", " | ".join(kinds), "| launches |")
            print("| --- " * (len(kinds) + 3) + "|")
        gains = [found["speed_up"]] + [each["speed_up"] for each in found["ablations"]]
        launches = f"{found['unfused']['kernels']}, {found['fused']['kernels']}"
        told = f"`{name}`, training step" if trains else f"`{name}`"
        print("|", told, "|", " | ".join(f"{gain:.2f}" for gain in gains), "|", launches, "|", flush=True)


if __name__ == "__main__":
    main()
