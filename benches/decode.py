"""Tokens per second of a decoder of 163 million parameters, by the form of its weights.

    python benches/decode.py [--nnc target/release/nnc] [--rounds 5] [--json FILE]

Weights are random, as nothing here depends on them. A call goes on with one token by 64 more, by a cache of keys and values,
so that each reads all matrices once (124 million elements; rows of the table of tokens are picked). Forms take turns;
medians over the rounds, beside the bandwidth of memory that `nnc profile` measures.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile

import numpy
from safetensors.numpy import save_file

MODEL = pathlib.Path(__file__).parent / "models" / "decode" / "decoder.nn"
BOUND = ["--only", "Decoder", "--bind", "N=1", "P=1"]
TOKENS = 65
FORMS = {"f32": None, "bf16": 16, "int8": 8 + 32 / 64, "int4": 4 + 32 / 64}


def run(nnc, *words):
    return subprocess.run([nnc, *words], check=True, capture_output=True, text=True).stdout


def random_weights(nnc, path):
    """Weights of every parameter; gives how many elements the matrices of products have."""
    graph = run(nnc, "dump", str(MODEL), *BOUND, "--at=graph", "--program=answer")
    generator, tensors, matrices = numpy.random.default_rng(0), {}, 0
    for name, dims in re.findall(r'param "([^"]+)" : f32\[([0-9, ]+)\]', graph):
        shape = [int(dim) for dim in dims.split(",")]
        if name.endswith(".scale"):
            tensor = numpy.ones(shape)
        elif len(shape) == 1:
            tensor = numpy.zeros(shape)
        else:
            tensor = generator.normal(0, 0.02, shape)
        if "dense" in name or "attend" in name:
            matrices += tensor.size if len(shape) == 2 and name not in tensors else 0
        tensors[name] = tensor.astype(numpy.float32)
    save_file(tensors, path)
    return matrices


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nnc", default="target/release/nnc")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = lambda form: f"{folder}/{form}.safetensors"
        elements = random_weights(options.nnc, file("f32"))
        for form in list(FORMS)[1:]:
            words = ["--weights-only", form, "--all", "-o", file(form)]
            run(options.nnc, "quantise", str(MODEL), *BOUND, "--weights", file("f32"), *words)
        seconds, memory = {form: [] for form in FORMS}, []
        for _ in range(options.rounds):
            for form in FORMS:
                told = run(options.nnc, "bench", str(MODEL), *BOUND, "--weights", file(form), "--seconds", "2", "--json")
                seconds[form].append(json.loads(told)[0]["fused"]["median"])
            told = run(options.nnc, "profile", str(MODEL), *BOUND, "--weights", file("int4"), "--seconds", "0.1", "--json")
            memory.append(json.loads(told)["roofline"]["bytes"])
    bandwidth = statistics.median(memory)
    print(f"memory {bandwidth / 1e9:.1f} GB/s, {elements:,} elements read for a token")
    print(f"{'form':6}{'tokens/s':>10}{'spread':>18}{'to f32':>8}{'GB/s':>7}{'of memory':>11}")
    rows = []
    for form, bits in FORMS.items():
        times = sorted(seconds[form])
        time = statistics.median(times)
        rate = elements * (bits or 32) / 8 * TOKENS / time
        # In one round with the floats, so that a slow spell of the machine does not count.
        gain = statistics.median(float(f) / float(t) for f, t in zip(seconds["f32"], seconds[form]))
        spread = f"{TOKENS / times[-1]:.1f} .. {TOKENS / times[0]:.1f}"
        print(f"{form:6}{TOKENS / time:10.1f}{spread:>18}{gain:8.2f}{rate / 1e9:7.1f}{100 * rate / bandwidth:10.0f} %")
        rows.append({"form": form, "tokens_per_second": TOKENS / time, "to_f32": gain, "bytes_per_second": rate})
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"memory": bandwidth, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
