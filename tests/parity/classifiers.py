"""PyTorch twins of `dsl-examples/mnist_mlp.nn` and `mnist_cnn.nn`: the same pictures, shifts, networks, initial values,
optimiser, schedule and choice of the best epoch.

    python tests/parity/classifiers.py mnist_mlp|mnist_cnn SEED MNIST [EPOCHS]      PyTorch; the folder with its four files"""

import gzip
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from recipes import classified, cosine, fit, held_out, like_nnc


def read(folder, part):
    """Standardised images and labels."""
    with gzip.open(f"{folder}/{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(f"{folder}/{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return (torch.tensor(pixels).float() / 255 - 0.1307) / 0.3081, torch.tensor(labels).long()


def shifted(x, by=2):
    """Each image at another place; what stands at an edge is repeated."""
    n, _, h, w = x.shape
    places = lambda length: (torch.arange(length) + torch.randint(-by, by + 1, (n, 1))).clip(0, length - 1)
    down, right = places(h), places(w)
    return x[torch.arange(n)[:, None, None], 0, down[:, :, None], right[:, None, :]][:, None]


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def convolutions():
    stage = lambda inputs, units: [nn.Conv2d(inputs, units, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers = [*stage(1, 32), *stage(32, 64), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)]
    return nn.Sequential(*layers)


# The network, the share that is held out, the rate, and what is done to the images that are trained on.
RECIPES = {"mnist_mlp": (perceptron, 0.1, 1e-3, lambda x: x), "mnist_cnn": (convolutions, 0.05, 2e-3, shifted)}


def main(name, seed, folder, epochs=5):
    torch.manual_seed(seed)
    make, share, rate, augmented = RECIPES[name]
    net, (x, y), test = like_nnc(make()), read(folder, "train"), read(folder, "t10k")
    held, rows = held_out(len(y), share)
    validation, (x, y) = (x[held], y[held]), (x[rows], y[rows])
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    loss = lambda rows: F.cross_entropy(net(augmented(x[rows])), y[rows])
    measures = (lambda: classified(net, *validation)), (lambda: classified(net, *test))
    fit(name, seed, net, loss, len(y), 64, epochs, optimiser, cosine(rate, warmup=200), *measures)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:5]))
