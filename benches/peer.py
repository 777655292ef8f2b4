"""One peer on one model, waiting for orders: `python peer.py infer|int8|train PEER MODEL THREADS [FOLDER]`.

Prints `ready COMPILE_SECONDS`; then each line `K` on stdin runs K steps and prints the seconds of each. `FOLDER` is what
`reference.py` wrote. A peer imports what it needs alone, so that its memory is its own.
"""

import logging
import os
import pathlib
import sys
import time
import warnings

# Steps before the first measured one.
WARM_UP = 5


def torch_infer(compiled: bool, model: str, folder: pathlib.Path, threads: int):
    import torch
    from peers_models import INFER
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    module = INFER[model][0]().eval()
    module.load_state_dict(load_file(folder / "weights.safetensors"))
    example = torch.from_numpy(input_of(folder))
    module = torch.compile(module) if compiled else module

    def step():
        with torch.inference_mode():
            return module(example)

    return step


def onnxruntime_infer(form: pathlib.Path, folder: pathlib.Path, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(form, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: input_of(folder)}
    return lambda: session.run(None, feed)


def openvino_infer(form: pathlib.Path, folder: pathlib.Path, threads: int):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(form, "CPU", settings).create_infer_request()
    example = input_of(folder)
    return lambda: request.infer([example], share_inputs=True, share_outputs=True)


def input_of(folder: pathlib.Path):
    """The input of a model; numbers of tokens are 64-bit ones, as the peers have them."""
    import numpy

    values = numpy.load(folder / "input.npy")
    return values.astype(numpy.int64) if values.dtype == numpy.int32 else values


def torch_train(compiled: bool, model: str, threads: int):
    import torch
    from peers_models import TRAIN

    torch.set_num_threads(threads)
    make, inputs, targets, loss, _ = TRAIN[model]
    module, inputs, targets = make().train(), inputs(), targets()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def forward(inputs, targets):
        return loss(module(inputs), targets)

    forward = torch.compile(forward) if compiled else forward

    def step():
        optimizer.zero_grad(set_to_none=True)
        forward(inputs, targets).backward()
        optimizer.step()

    return step


def jax_train(model: str, threads: int):
    # XLA takes as many threads as there are processors that it may use.
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:threads])
    import jax_models

    return jax_models.step(model)


def make(kind: str, peer: str, model: str, threads: int, folder: pathlib.Path | None):
    """A function that makes one step."""
    if kind == "train":
        if peer == "jax":
            return jax_train(model, threads)
        return torch_train(peer == "torch.compile", model, threads)
    form = folder / ("model.int8.onnx" if kind == "int8" else "model.onnx")
    if peer == "onnxruntime":
        return onnxruntime_infer(form, folder, threads)
    if peer == "openvino":
        return openvino_infer(form, folder, threads)
    return torch_infer(peer == "torch.compile", model, folder, threads)


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    kind, peer, model, threads = sys.argv[1:5]
    os.environ["OMP_NUM_THREADS"] = threads
    folder = pathlib.Path(sys.argv[5]) if len(sys.argv) > 5 else None
    started = time.perf_counter()
    try:
        step = make(kind, peer, model, int(threads), folder)
    except ImportError as missing:
        sys.exit(print(missing, flush=True))
    if step is None:
        sys.exit(print("it has no form of this model", flush=True))
    step()
    compiled = time.perf_counter() - started
    for _ in range(WARM_UP):
        step()
    print("ready", compiled, flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        print(*seconds, flush=True)


main()
