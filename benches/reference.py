"""Writes what every engine of a comparison works on: `python reference.py MODEL FOLDER [INPUT.npy TARGET.npy]`.

For inference, `weights.safetensors` has random weights by PyTorch's names, with statistics of batch_norm as a trained network might have
them; `input.npy` an input, `expected.npy` PyTorch's answer, `model.onnx` the network for other peers.

For training, with names for a batch and its targets: these, the first weights, and in `losses.json` the losses of PyTorch's
first steps on that batch.
"""

import json
import logging
import pathlib
import sys
import warnings

import numpy
import torch
from peers_models import INFER, TRAIN
from safetensors.torch import save_file

# Steps of training whose losses are kept.
STEPS = 3


def network(model: str) -> torch.nn.Module:
    """A model of `peers_models`, the same for every call."""
    torch.manual_seed(0)
    module = INFER[model][0]().eval()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.1)
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return module


def save_weights(module: torch.nn.Module, folder: pathlib.Path):
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "weights.safetensors")


def save(example: torch.Tensor, path: pathlib.Path):
    """Whole numbers as 32-bit ones, as nnc has them."""
    values = example.numpy()
    numpy.save(path, values.astype(numpy.int32) if values.dtype == numpy.int64 else values)


def training(model: str, folder: pathlib.Path, data: list[str]):
    torch.manual_seed(0)
    make, inputs, targets, loss, _ = TRAIN[model]
    module, batch = make().train(), (inputs(), targets())
    save_weights(module, folder)
    for example, name in zip(batch, data):
        save(example, folder / name)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(module(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    (folder / "losses.json").write_text(json.dumps(losses) + "\n")


def inference(model: str, folder: pathlib.Path):
    module, example = network(model), INFER[model][1]()
    save_weights(module, folder)
    with torch.inference_mode():
        numpy.save(folder / "expected.npy", module(example).numpy())
    save(example, folder / "input.npy")
    torch.onnx.export(module, (example,), folder / "model.onnx", dynamo=True, external_data=False, verbose=False)


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    model, folder, *data = sys.argv[1:]
    if data:
        training(model, pathlib.Path(folder), data)
    else:
        inference(model, pathlib.Path(folder))


if __name__ == "__main__":
    main()
