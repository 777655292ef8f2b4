"""nnc beside its peers: `python benches/compare.py [--kind infer|int8|train] [--only MODEL,...] [--peers PEER,...]`.

Each round measures every engine once, one after the other, so that a slow minute of the machine hits all of them. A
round is as many steps as take a third of a second (or `--steps`), and counts with its fastest one: on a machine that does
nothing else, what is above the minimum is noise. An engine's time is the median of that over the rounds, and a ratio is a peer's
time over nnc's: above 1 nnc is faster. The best peer is the one whose time is the least. The spread of a time is the largest
less the smallest of the rounds, of their median; that of a ratio, of the quotients of single rounds. Rounds that other programs
disturb are taken again while there is `--patience`.

A step of training is one step of Adam on a batch; nnc's copies its batch in, the peers' tensors are in place already. A
step of inference is one call of a host program whose input is in a tensor of the engine; nnc and OpenVINO answer in
place. Every engine has the same weights, and nnc's answer must be PyTorch's within the tolerance below before anything
is timed. In training the losses of nnc's first steps from PyTorch's weights must be PyTorch's.

Rows of kind int8 are networks quantised after training: nnc's by `nnc quantise`, with the products that it chooses and with all
of them, beside nnc's f32 with and without Winograd's form and the peers' int8. After them stands which are slower than nnc's f32.

Networks and their sizes are those of `peers_models.py` and `jax_models.py`, in nnc's language below `models/`. Needs
`pip install torch torchvision safetensors onnx onnxscript onnxruntime openvino jax`; peers that are not installed are
left out, and said to be. What the machine can do at best is measured first.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

import engines

# Engines that ran last may keep their threads spinning for a while.
PAUSE = 0.05
# How long to look whether other programs are running. All of these are seconds.
LOOK = 0.5
ROUND = 0.3
# Steps of a round, at least and at most.
LEAST_STEPS, MOST_STEPS = 3, 2000
# Answers may differ by so much, relative to the largest number, and losses of the first steps.
# (PyTorch's LSTM has each bias twice, and Adam moves both: from the second step on its loss is another by some 1e-5.)
TOLERANCE = 1e-4


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


def start(kind: str, model: str, arguments: argparse.Namespace) -> dict[str, engines.Engine]:
    """The engines that run a model, nnc first."""
    started = {"nnc": engines.nnc(kind, model, arguments.threads)}
    if kind == "int8":
        started |= {"nnc, all": engines.nnc("int8 all", model, arguments.threads)}
        started |= {"nnc, f32": engines.nnc("f32", model, arguments.threads)}
        started |= {"nnc, f32 by Winograd": engines.nnc("infer", model, arguments.threads)}
    if arguments.unfused and kind == "train":
        started["nnc, unfused"] = engines.nnc(kind, model, arguments.threads, unfused=True)
    for name in engines.PEERS[kind]:
        if arguments.peers and name not in arguments.peers:
            continue
        try:
            started[name] = engines.peer(kind, name, model, arguments.threads)
        except engines.Failed as failed:
            print(f"{model}: {name} is left out: {failed}", file=sys.stderr)
    return started


def steps_of_round(engine: engines.Engine, arguments: argparse.Namespace) -> int:
    """How many steps an engine makes in a round."""
    if arguments.steps:
        return arguments.steps
    one = min(engine.steps(LEAST_STEPS))
    return max(LEAST_STEPS, min(MOST_STEPS, int(ROUND / one)))


def rounds_of(model: str, running: dict[str, engines.Engine], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """For each engine the seconds of its fastest step in each round."""
    counts = {name: steps_of_round(engine, arguments) for name, engine in running.items()}
    rounds = {name: [] for name in running}
    disturbed, patience = 0, arguments.patience
    while len(rounds["nnc"]) < arguments.rounds:
        quiet = True
        if patience > 0:
            started = time.monotonic()
            quiet = wait_for_quiet(patience)
            patience -= time.monotonic() - started
        found = {}
        for name, engine in running.items():
            time.sleep(PAUSE)
            found[name] = min(engine.steps(counts[name]))
        # A round that others disturbed is taken again while there is patience.
        undisturbed = patience > 0 and quiet and not busy()
        if undisturbed or patience <= 0:
            disturbed += not undisturbed
            for name, seconds in found.items():
                rounds[name].append(seconds)
    if disturbed and arguments.patience > 0:
        print(f"{model}: other programs ran during {disturbed} of {arguments.rounds} rounds", file=sys.stderr)
    return rounds


def measure(kind: str, model: str, arguments: argparse.Namespace, machine: tuple[float, float]) -> dict | None:
    """The row of one model; None when an engine that must be there is not."""
    try:
        running = start(kind, model, arguments)
        if kind == "infer":
            found = engines.difference(model)
            if found > TOLERANCE:
                raise engines.Failed(f"nnc's answer differs from PyTorch's by {found:.1e} of the largest number")
        if kind == "train":
            found = engines.loss_difference(model, running["nnc"])
            if found > TOLERANCE:
                raise engines.Failed(f"nnc's first losses differ from PyTorch's by {found:.1e}")
    except engines.Failed as failed:
        print(f"{model}: {failed}", file=sys.stderr)
        return None
    rounds = rounds_of(model, running, arguments)
    memory = {name: engine.peak_memory() for name, engine in running.items()}
    facts = running["nnc"].facts
    for engine in running.values():
        engine.close()
    print_engines(kind, model, rounds, memory, {name: engine.facts[0] for name, engine in running.items()})
    return row(kind, model, arguments.threads, rounds, memory, facts, machine)


def ratio(rounds: dict[str, list[float]], peer: str) -> float:
    """How many times faster than the peer nnc is: the median of its rounds over that of nnc's."""
    return statistics.median(rounds[peer]) / statistics.median(rounds["nnc"])


def spread(rounds: dict[str, list[float]], peer: str) -> float:
    """The largest less the smallest ratio of a round."""
    ratios = [theirs / ours for theirs, ours in zip(rounds[peer], rounds["nnc"])]
    return max(ratios) - min(ratios)


def row(kind, model, threads, rounds, memory, facts, machine) -> dict:
    """What `--json` writes of a model."""
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    peers = [name for name in rounds if not name.startswith("nnc")]
    best = min(peers, key=medians.get, default=None)
    # The issue of memory is inference, and ONNX Runtime the most frugal peer; without it, the fastest one's is told.
    frugal = "onnxruntime" if "onnxruntime" in peers else best
    flops = facts[1] if len(facts) > 1 else None
    bandwidth = 100 * facts[2] / medians["nnc"] / machine[1] if len(facts) > 2 else None
    return {
        "kind": kind,
        "model": model,
        "threads": threads,
        "nnc_ms": medians["nnc"] * 1e3,
        "best_peer": best,
        "best_peer_ms": medians[best] * 1e3 if best else None,
        "ratio": ratio(rounds, best) if best else None,
        "ratio_spread": spread(rounds, best) if best else None,
        "nnc_compile_ms": facts[0] * 1e3,
        "nnc_rss_mb": memory["nnc"],
        "peer_rss_mb": memory[frugal] if frugal else None,
        "peak_percent": 100 * flops / medians["nnc"] / machine[0] if flops else None,
        "bandwidth_percent": bandwidth,
    } | ({name: ratio(rounds, engine) for name, engine in OWN.items()} if kind == "int8" else {})


# What is measured unless a kind is asked for: the networks as they were handed to the project.
REPORTED = ("infer", "train")
# What a row of kind int8 tells of nnc's other forms of the network: how many times as fast the chosen one is.
OWN = {"over_f32": "nnc, f32", "over_winograd": "nnc, f32 by Winograd", "over_all": "nnc, all"}
# Times that differ by less are the same.
SAME = 0.03


def print_slower(rows: list[dict]):
    """The networks that integers make slower than nnc's own floats."""
    over = {row["model"]: min(row["over_f32"], row["over_winograd"]) for row in rows if row["kind"] == "int8"}
    if not over:
        return
    for row in (row for row in rows if row["kind"] == "int8"):
        print(f"{row['model']:20} " + "  ".join(f"{name.replace('_', ' ')} {row[name]:.2f}x" for name in OWN))
    slower = [f"{model} ({ratio:.2f}x)" for model, ratio in over.items() if ratio < 1 - SAME]
    print(f"slower in int8 than in f32: {', '.join(slower) or 'none'}")


def print_engines(kind: str, model: str, rounds: dict, memory: dict, compiling: dict):
    """A line for each engine of a model."""
    title = f"{kind} {model}"
    print(f"\n{title:28} {'ms/step':>10} {'best':>10} {'spread':>8} {'nnc is':>8} {'compile ms':>11} {'peak MB':>8}")
    for name, times in rounds.items():
        median, best = statistics.median(times), min(times)
        spread = (max(times) - best) / median
        line = f"  {name:26} {median * 1e3:10.4f} {best * 1e3:10.4f} {spread:8.1%} {ratio(rounds, name):7.2f}x"
        print(f"{line} {compiling[name] * 1e3:11.1f} {memory[name]:8.0f}", flush=True)


def print_rows(rows: list[dict], machine: tuple[float, float]):
    """The table of all models."""
    print(f"\nthis machine: {machine[0] / 1e9:.0f} GFLOP/s by multiply-add, {machine[1] / 1e9:.1f} GB/s from memory")
    heading = f"{'model':20} {'nnc ms':>10} {'best peer':>14} {'ms':>10} {'ratio':>7} {'spread':>7} {'peak':>6} {'memory':>7}"
    for kind in engines.PEERS:
        own = [row for row in rows if row["kind"] == kind]
        if not own:
            continue
        print(f"\n{kind:5}\n{heading} {'compile ms':>11} {'MB':>6} {'peer MB':>8}")
        for row in own:
            print(line_of(row))
        print_slower(own)
        ratios = [row["ratio"] for row in own if row["ratio"]]
        if ratios:
            print(f"geometric mean of {len(ratios)} ratios: {statistics.geometric_mean(ratios):.2f}x")


def line_of(row: dict) -> str:
    """One line of the table; a dash for what was not measured."""
    share = lambda value: "-" if value is None else f"{value:.0f} %"
    number = lambda value, form: "-" if value is None else format(value, form)
    return (
        f"{row['model']:20} {row['nnc_ms']:10.4f} {row['best_peer'] or '-':>14} {number(row['best_peer_ms'], '.4f'):>10} "
        f"{number(row['ratio'], '.2f'):>7} {number(row['ratio_spread'], '.2f'):>7} "
        f"{share(row['peak_percent']):>6} {share(row['bandwidth_percent']):>7} "
        f"{row['nnc_compile_ms']:11.1f} {row['nnc_rss_mb']:6.0f} {number(row['peer_rss_mb'], '.0f'):>8}"
    )


def chosen(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """The kinds and names of the models to be measured."""
    models = {"infer": engines.INFERENCE, "int8": engines.INFERENCE, "train": engines.TRAINING}
    known = [(kind, model) for kind, names in models.items() for model in names]
    known = [(kind, model) for kind, model in known if kind in ([arguments.kind] if arguments.kind else REPORTED)]
    names = [model for _, model in known]
    unknown = [model for model in arguments.only if model not in names]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(names)}")
    return [(kind, model) for kind, model in known if not arguments.only or model in arguments.only]


def main():
    names = lambda text: [name for name in text.split(",") if name]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=list(engines.PEERS), help="infer and train without it")
    parser.add_argument("--only", type=names, default=[], metavar="MODEL,...", help="all without it")
    parser.add_argument("--peers", type=names, default=[], metavar="PEER,...", help="all without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, help="steps in a round; without it as many as take a third of a second")
    patience_help = "seconds to wait for other programs to end, for each model"
    parser.add_argument("--patience", type=float, default=120, help=patience_help)
    parser.add_argument("--unfused", action="store_true", help="also training by nnc without fusion")
    parser.add_argument("--json", metavar="FILE", help="also write the table's rows as JSON")
    arguments = parser.parse_args()
    every_peer = {peer for peers in engines.PEERS.values() for peer in peers}
    unknown = [peer for peer in arguments.peers if peer not in every_peer]
    if unknown:
        parser.error(f"no peer {', '.join(unknown)}; there are {', '.join(sorted(every_peer))}")
    models = chosen(arguments, parser)
    engines.build()
    machine = engines.roofline(arguments.threads)
    rows = []
    for kind, model in models:
        found = measure(kind, model, arguments, machine)
        rows += [found] if found else []
        if arguments.json:
            pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    print_rows(rows, machine)
    if len(rows) < len(models):
        sys.exit(f"{len(models) - len(rows)} of {len(models)} models could not be measured")


main()
