"""Where a training step's time goes: `python benches/hot_kernels.py MODEL.nn [--batch 64] [--threads 2] [--steps 300]`.

Samples `crates/nnc-driver/examples/step.rs` with Linux's `perf` (cranelift-jit tells it the names of kernels when
PERF_BUILDID_DIR is set) and prints for each kernel its share of the time of all threads, and the arithmetic and the
memory traffic that come of it. A kernel that is launched several times is one line.
"""

import argparse
import bisect
import os
import pathlib
import re
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def shares_by_kernel(samples: list[list[str]]) -> dict[str, float]:
    """Percent of the samples (process, address) in each kernel, by its number.

    The initialisation of the weights is a program too, whose memory the step's code may have taken over: of names that
    overlap the last one counts, which is why `perf report` is not asked."""
    map_file = pathlib.Path(f"/tmp/perf-{samples[0][0]}.map")
    names = [line.split(" ", 2) for line in map_file.read_text().splitlines()]
    last_program = [(int(start, 16), int(length, 16), name) for start, length, name in names]
    entries = [place for place, (_, _, name) in enumerate(last_program) if not name.startswith("kernel")]
    last_program = last_program[entries[-2] + 1 :]
    map_file.unlink()
    starts = sorted((start, length, name) for start, length, name in last_program)
    shares = {}
    for _, address in samples:
        at = int(address, 16)
        place = bisect.bisect_right(starts, (at, float("inf"), "")) - 1
        if place >= 0 and at < starts[place][0] + starts[place][1] and starts[place][2].startswith("kernel"):
            number = re.match(r"kernel(\d+)", starts[place][2])[1]
            shares[number] = shares.get(number, 0.0) + 100 / len(samples)
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    build = ["cargo", "build", "--release", "-q", "-p", "nnc-driver", "--example", "step"]
    subprocess.run(build, check=True, cwd=HERE.parent)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    step = [str(target / "release/examples/step"), arguments.model]
    step += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]

    launches = subprocess.run([*step, "--kernels"], check=True, capture_output=True, text=True).stdout.splitlines()
    kernels = {}
    for line in launches:
        number, flops, traffic, name = line.split(" ", 3)
        kernel = kernels.setdefault(number, {"flops": 0, "bytes": 0, "launches": 0, "name": name})
        kernel["flops"] += int(flops)
        kernel["bytes"] += int(traffic)
        kernel["launches"] += 1

    with tempfile.TemporaryDirectory() as folder:
        samples = f"{folder}/samples"
        record = ["perf", "record", "-q", "-F", "1999", "-o", samples, *step]
        environment = os.environ | {"PERF_BUILDID_DIR": folder}
        ran = subprocess.run(
            record, input=f"{arguments.steps}\n", check=True, capture_output=True, text=True, env=environment
        )
        script = ["perf", "script", "-i", samples, "-F", "pid,ip"]
        lines = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
    per_step = statistics.median(float(word) for word in ran.stdout.splitlines()[1].split())
    shares = shares_by_kernel([line.split()[:2] for line in lines])

    print(f"{per_step * 1e3:.3f} ms a step (median, under perf); {len(launches)} launches of {len(kernels)} kernels")
    print(f"{'share':>6} {'ms':>8} {'GFLOP/s':>8} {'GB/s':>7} {'times':>5}  kernel")
    for number, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        if share < 0.3 or number not in kernels:
            continue
        kernel = kernels[number]
        seconds = per_step * share / 100
        speed, traffic = kernel["flops"] / seconds / 1e9, kernel["bytes"] / seconds / 1e9
        line = f"{share:5.1f}% {seconds * 1e3:8.3f} {speed:8.1f} {traffic:7.1f} {kernel['launches']:5}"
        print(f"{line}  {number}: {kernel['name']}")
    print(f"{100 - sum(shares.values()):5.1f}% outside of kernels: waiting, the copy of the batch, compiling")


main()
