"""Training steps of nnc beside PyTorch's: `python benches/compare.py [MODEL...] [--threads 2] [--rounds 9]`.

Each round measures every engine once, one after the other, so that a slow minute of the machine hits all of them. A
round is `--steps` steps, and counts with its fastest one: on a machine that does nothing else, what is above the
minimum is noise. The table gives the median of the rounds, their spread (largest less smallest, of the median) and
nnc's median relative to PyTorch's. nnc's step copies its batch in; PyTorch's tensors are in place already.

Networks and their sizes are those of `peers_models.py`, in nnc's language below `models/`. Both start from their own
random weights: how long a step takes does not depend on them. Needs `pip install torch`, and builds
`crates/nnc-driver/examples/step.rs`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# The name in peers_models.TRAIN, the file below models/, the batch.
MODELS = {
    "mnist_cnn_b64": ("mnist_cnn.nn", 64),
    "seed_cnn_b64": ("seed_cnn.nn", 64),
    "mlp_b128": ("mlp.nn", 128),
    "autoenc_b128": ("autoencoder.nn", 128),
}
# Engines that ran last may keep their threads spinning for a while.
PAUSE = 0.05


class Nnc:
    """`step.rs` as a process that waits for orders."""

    def __init__(self, model: str, threads: int, extra: list[str]):
        file, batch = MODELS[model]
        # By cargo, so that what is measured is what the sources say.
        build = ["cargo", "build", "--release", "-q", "-p", "nnc-driver", "--example", "step"]
        subprocess.run(build, check=True, cwd=HERE.parent)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
        command = [target / "release/examples/step", HERE / "models" / file, "--batch", batch, "--threads", threads]
        command = [str(word) for word in command] + extra
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.compile_seconds = float(self._line().split()[1])

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the example `step` ended; its message is above")
        return line

    def steps(self, count: int) -> list[float]:
        """Seconds of each of `count` steps."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return [float(word) for word in self._line().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Eager:
    """PyTorch, eagerly, with its default Adam."""

    compile_seconds = 0.0

    def __init__(self, model: str):
        import torch
        from peers_models import TRAIN

        make, images, targets, self.loss, _ = TRAIN[model]
        self.model, self.images, self.targets = make().train(), images(), targets()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.steps(5)

    def steps(self, count: int) -> list[float]:
        """Seconds of each of `count` steps."""
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(self.model(self.images), self.targets).backward()
            self.optimizer.step()
            seconds.append(time.perf_counter() - started)
        return seconds

    def close(self):
        pass


def busy() -> list[str]:
    """Compilers that run now: a measurement beside them is worth nothing. Those that wait or are stopped do no harm."""
    lines = subprocess.run(["ps", "-eo", "stat=,comm="], capture_output=True, text=True, check=True).stdout.splitlines()
    running = {line.split()[1] for line in lines if line[0] not in "TZ"}
    return sorted(running & {"rustc", "cc1", "ld", "ld.lld", "rust-lld"})


def wait_for_quiet(patience: float) -> bool:
    """Waits until no compiler runs; says whether that came about within `patience` seconds."""
    deadline = time.monotonic() + patience
    while busy():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


def measure(model: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """For each engine the median, the spread and the rounds of one model."""
    engines = {"PyTorch eager": Eager(model), "nnc": Nnc(model, arguments.threads, [])}
    if arguments.unfused:
        engines["nnc, unfused"] = Nnc(model, arguments.threads, ["--no-fuse"])
    rounds = {name: [] for name in engines}
    while min(len(found) for found in rounds.values()) < arguments.rounds:
        quiet = wait_for_quiet(arguments.patience)
        found = {}
        for name, engine in engines.items():
            time.sleep(PAUSE)
            found[name] = min(engine.steps(arguments.steps))
        # A round that a compiler disturbed is taken again while there is patience.
        if not (quiet and busy()):
            for name, seconds in found.items():
                rounds[name].append(seconds)
    result = {}
    for name, engine in engines.items():
        engine.close()
        median = statistics.median(rounds[name])
        spread = (max(rounds[name]) - min(rounds[name])) / median
        result[name] = {"seconds": median, "spread": spread, "rounds": rounds[name]}
        result[name]["compile_seconds"] = engine.compile_seconds
    return result


def print_table(model: str, result: dict[str, dict[str, float]]):
    """One line for each engine; the ratio is steps per second relative to PyTorch's."""
    batch = MODELS[model][1]
    reference = result["PyTorch eager"]["seconds"]
    print(f"\n{model:16} {'ms/step':>9} {'spread':>8} {'items/s':>9} {'speed':>7} {'compile ms':>11}")
    for name, row in result.items():
        rate, speed = batch / row["seconds"], reference / row["seconds"]
        milliseconds, compiling = row["seconds"] * 1e3, row["compile_seconds"] * 1e3
        line = f"{name:16} {milliseconds:9.3f} {row['spread']:8.1%} {rate:9.0f} {speed:6.2f}x"
        print(line + (f" {compiling:11.1f}" if compiling else ""), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all without one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for compilers to end, each round")
    parser.add_argument("--unfused", action="store_true", help="also nnc without fusion")
    parser.add_argument("--json", metavar="FILE", help="also write every round as JSON")
    arguments = parser.parse_args()
    unknown = [model for model in arguments.models if model not in MODELS]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    torch.set_num_threads(arguments.threads)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds of {arguments.steps} steps")
    results = {}
    for model in arguments.models or MODELS:
        results[model] = measure(model, arguments)
        print_table(model, results[model])
    if busy():
        print(f"\nwarning: {', '.join(busy())} is running: measure again on a quiet machine", file=sys.stderr)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


main()
