"""Tokens per second of a decoder of 163 million parameters, by the form of its weights.

    python benches/decode.py [--nnc target/release/nnc] [--rounds 5] [--json FILE]

Weights are random, as nothing here depends on them. A call goes on with one token by 64 more, by a cache of keys and
values, so that each reads all matrices once (124 million elements; rows of the table of tokens are picked), and, but
for the first one, all keys and values. Forms take turns; medians over the rounds, beside the bandwidth of memory that
`nnc profile` measures before and after each.
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
# Bytes of the keys and values of all places: layers, both, places, width.
CACHE = 12 * 2 * TOKENS * 768 * 4
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


def bandwidth(nnc, weights):
    """Bytes per second from memory."""
    told = run(nnc, "profile", str(MODEL), *BOUND, "--weights", weights, "--seconds", "0.1", "--json")
    return json.loads(told)["roofline"]["bytes"]


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
        seconds, memory = {form: [] for form in FORMS}, {form: [] for form in FORMS}
        before = bandwidth(options.nnc, file("int4"))
        for _ in range(options.rounds):
            for form in FORMS:
                told = run(options.nnc, "bench", str(MODEL), *BOUND, "--weights", file(form), "--seconds", "2", "--json")
                seconds[form].append(json.loads(told)[0]["fused"]["median"])
                after = bandwidth(options.nnc, file("int4"))
                memory[form].append((before + after) / 2)
                before = after
    every = sorted(sum(memory.values(), []))
    print(f"memory {statistics.median(every) / 1e9:.1f} GB/s ({every[0] / 1e9:.1f} .. {every[-1] / 1e9:.1f})")
    print(f"a token reads {elements:,} weights and {CACHE / 1e6:.1f} MB of keys and values")
    print(f"{'form':6}{'tokens/s':>10}{'spread':>18}{'to f32':>8}{'GB/s':>7}{'of memory':>11}{'with keys':>11}")
    rows = []
    for form, bits in FORMS.items():
        times = sorted(seconds[form])
        time = statistics.median(times)
        weights = elements * (bits or 32) / 8
        rate = weights * TOKENS / time
        # In one round with the floats, so that a slow spell of the machine does not count.
        gain = statistics.median(float(f) / float(t) for f, t in zip(seconds["f32"], seconds[form]))
        # Of what memory gave just before and just after.
        share = statistics.median(weights * TOKENS / t / m for t, m in zip(seconds[form], memory[form]))
        whole = share * (weights + CACHE) / weights
        spread = f"{TOKENS / times[-1]:.1f} .. {TOKENS / times[0]:.1f}"
        shares = f"{100 * share:9.0f} %{100 * whole:9.0f} %"
        print(f"{form:6}{TOKENS / time:10.1f}{spread:>18}{gain:8.2f}{rate / 1e9:7.1f}{shares}")
        rows.append({
            "form": form,
            "tokens_per_second": TOKENS / time,
            "to_f32": gain,
            "bytes_per_second": rate,
            "of_memory": share,
            "of_memory_with_keys": whole,
        })
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"memory": statistics.median(every), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
