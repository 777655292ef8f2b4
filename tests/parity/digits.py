"""The PyTorch twin of `digits_parity.nn`: writes `digits_init.safetensors` and `digits_losses.json` beside itself."""

import pathlib

import numpy
import torch
import twin

HERE = pathlib.Path(__file__).parent
DATA = HERE / "../../dsl-examples/data/digits.csv.gz"

rows = numpy.loadtxt(DATA, delimiter=",", dtype=numpy.float32)
images = lambda dtype: torch.from_numpy(rows[:, :64]).to(dtype).reshape(-1, 1, 8, 8) / 16
labels = torch.from_numpy(rows[:, 64].astype(numpy.int64))
twin.record("digits", HERE, lambda: twin.ConvNet(8, (16, 32), 64), images, labels, batch=32, steps=100)
