"""Writes what every engine of a comparison works on: `python reference.py MODEL FOLDER`.

`weights.safetensors` has random weights by PyTorch's names, with statistics of batch_norm as a trained network might have
them; `input.npy` an input, `expected.npy` PyTorch's answer, `model.onnx` the network for other peers.
"""

import logging
import pathlib
import sys
import warnings

import numpy
import torch
from peers_models import INFER
from safetensors.torch import save_file


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


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    model, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    module, example = network(model), INFER[model][1]()
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "weights.safetensors")
    with torch.inference_mode():
        numpy.save(folder / "expected.npy", module(example).numpy())
    values = example.numpy()
    numpy.save(folder / "input.npy", values.astype(numpy.int32) if values.dtype == numpy.int64 else values)
    torch.onnx.export(module, (example,), folder / "model.onnx", dynamo=True, external_data=False, verbose=False)


if __name__ == "__main__":
    main()
