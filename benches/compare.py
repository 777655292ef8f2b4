"""Training steps of nnc beside PyTorch's: `python benches/compare.py [MODEL...] [--threads 2] [--rounds 9]`.

Each round measures every engine once, one after the other, so that a slow minute of the machine hits all of them. A
round is `--steps` steps, and counts with its fastest one: on a machine that does nothing else, what is above the
minimum is noise. The table gives the median and the best of the rounds, their spread (largest less smallest, of the
median), and the speed: PyTorch's time of a round over the engine's of the same round, the median of that. nnc's step
copies its batch in; PyTorch's tensors are in place already. Rounds that other programs disturb are taken again.

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
    "char_lstm_b32": ("char_lstm.nn", 32),
    "nanogpt_cpu": ("nanogpt.nn", 12),
    "resnet18_cifar_b32": ("resnet18_cifar.nn", 32),
}
# Engines that ran last may keep their threads spinning for a while.
PAUSE = 0.05
# How long to look whether other programs are running. All of these are seconds.
LOOK = 0.5


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


def busy() -> bool:
    """Whether other programs take more than a tenth of a processor: a measurement beside them is worth little."""

    def ticks() -> int:
        user, nice, system = pathlib.Path("/proc/stat").read_text().split()[1:4]
        return int(user) + int(nice) + int(system)

    before = ticks()
    time.sleep(LOOK)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") > 0.1 * LOOK


def wait_for_quiet(patience: float) -> bool:
    """Waits until the machine is idle; says whether that came about within `patience` seconds."""
    deadline = time.monotonic() + patience
    while busy():
        if time.monotonic() >= deadline:
            return False
    return True


def measure(model: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """For each engine the median, the spread and the rounds of one model."""
    engines = {"PyTorch eager": Eager(model), "nnc": Nnc(model, arguments.threads, [])}
    if arguments.unfused:
        engines["nnc, unfused"] = Nnc(model, arguments.threads, ["--no-fuse"])
    rounds = {name: [] for name in engines}
    disturbed, patience = 0, arguments.patience
    while len(rounds["nnc"]) < arguments.rounds:
        started = time.monotonic()
        quiet = wait_for_quiet(patience)
        patience -= time.monotonic() - started
        found = {}
        for name, engine in engines.items():
            time.sleep(PAUSE)
            found[name] = min(engine.steps(arguments.steps))
        # A round that others disturbed is taken again while there is patience.
        undisturbed = quiet and not busy()
        if undisturbed or patience <= 0:
            disturbed += not undisturbed
            for name, seconds in found.items():
                rounds[name].append(seconds)
    if disturbed:
        print(f"\n{model}: other programs ran during {disturbed} of {arguments.rounds} rounds", file=sys.stderr)
    result = {}
    for name, engine in engines.items():
        engine.close()
        median, best = statistics.median(rounds[name]), min(rounds[name])
        spread = (max(rounds[name]) - best) / median
        speed = statistics.median(eager / own for eager, own in zip(rounds["PyTorch eager"], rounds[name]))
        result[name] = {"seconds": median, "best": best, "spread": spread, "speed": speed, "rounds": rounds[name]}
        result[name]["compile_seconds"] = engine.compile_seconds
    return result


def print_table(model: str, result: dict[str, dict[str, float]]):
    """One line for each engine."""
    batch = MODELS[model][1]
    print(f"\n{model:16} {'ms/step':>9} {'best':>9} {'spread':>8} {'items/s':>9} {'speed':>7} {'compile ms':>11}")
    for name, row in result.items():
        median, best, compiling = row["seconds"] * 1e3, row["best"] * 1e3, row["compile_seconds"] * 1e3
        line = f"{name:16} {median:9.3f} {best:9.3f} {row['spread']:8.1%} {batch / row['seconds']:9.0f}"
        print(f"{line} {row['speed']:6.2f}x" + (f" {compiling:11.1f}" if compiling else ""), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all without one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    patience_help = "seconds to wait for other programs to end, for each model"
    parser.add_argument("--patience", type=float, default=120, help=patience_help)
    parser.add_argument("--unfused", action="store_true", help="also nnc without fusion")
    parser.add_argument("--json", metavar="FILE", help="also write every round as JSON")
    arguments = parser.parse_args()
    unknown = [model for model in arguments.models if model not in MODELS]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    torch.set_num_threads(arguments.threads)
    rounds = f"{arguments.rounds} rounds of {arguments.steps} steps"
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, {rounds}")
    results = {}
    for model in arguments.models or MODELS:
        results[model] = measure(model, arguments)
        print_table(model, results[model])
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


main()
