"""PyTorch twins of `dsl-examples/resnet_cifar.nn`, `alexnet_small.nn` and `inception_small.nn`: the same pictures, crops,
networks, initial values, optimiser and schedule.

    python tests/parity/cifar.py resnet_cifar|alexnet_small|inception_small SEED cifar10-subset.tar EPOCHS      PyTorch 2.9.1"""

import io
import sys
import tarfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from recipes import classified, fit, like_nnc, one_cycle


def read(path):
    """Standardised pictures and labels of both parts; classes in the order of their names."""
    parts = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        members = sorted((member for member in archive.getmembers() if member.isfile()), key=lambda member: member.name)
        classes = sorted({member.name.split("/")[-2] for member in members})
        for member in members:
            part, name = member.name.split("/")[-3:-1]
            picture = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
            parts[part].append((np.asarray(picture).transpose(2, 0, 1), classes.index(name)))
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)))
    made = {}
    for part, rows in parts.items():
        pixels = torch.tensor(np.stack([x for x, _ in rows])).float() / 255
        made[part] = (pixels - mean) / std, torch.tensor([label for _, label in rows])
    return made


def cropped_and_flipped(x, padding=4):
    n, _, h, w = x.shape
    wide = F.pad(x, (padding,) * 4)
    down = torch.randint(0, 2 * padding + 1, (n, 1)) + torch.arange(h)
    right = torch.randint(0, 2 * padding + 1, (n, 1)) + torch.arange(w)
    right = torch.where(torch.rand(n, 1) < 0.5, right.flip(1), right)
    return wide[torch.arange(n)[:, None, None], :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2).contiguous()


def conv_norm(inputs, units, kernel, stride=1):
    return [nn.Conv2d(inputs, units, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(units)]


class Residual(nn.Module):
    def __init__(self, inputs, units, stride):
        super().__init__()
        self.body = nn.Sequential(*conv_norm(inputs, units, 3, stride), nn.ReLU(), *conv_norm(units, units, 3))
        self.shortcut = nn.Sequential(*(conv_norm(inputs, units, 1, stride) if stride != 1 or inputs != units else []))

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


class Inception(nn.Module):
    def __init__(self, inputs, one, three, five, pool):
        super().__init__()
        way = lambda *sizes: [layer for size in sizes for layer in (*conv_norm(*size), nn.ReLU())]
        self.ways = nn.ModuleList(
            [
                nn.Sequential(*way((inputs, one, 1))),
                nn.Sequential(*way((inputs, three[0], 1), (*three, 3))),
                nn.Sequential(*way((inputs, five[0], 1), (*five, 5))),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), *way((inputs, pool, 1))),
            ]
        )

    def forward(self, x):
        return torch.cat([way(x) for way in self.ways], 1)


def resnet_cifar(width=16, blocks=3):
    layers, last = [*conv_norm(3, width, 3), nn.ReLU()], width
    for stage in range(3):
        for block in range(blocks):
            layers.append(Residual(last, width * 2**stage, 2 if stage and not block else 1))
            last = width * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 10))


def alexnet_small(width=32, hidden=512):
    pool = lambda: nn.MaxPool2d(3, 2, 1)
    conv = lambda inputs, units, kernel: [nn.Conv2d(inputs, units, kernel, padding=kernel // 2), nn.ReLU()]
    layers = [*conv(3, width, 5), pool(), *conv(width, 3 * width, 5), pool(), *conv(3 * width, 6 * width, 3)]
    layers += [*conv(6 * width, 4 * width, 3), *conv(4 * width, 4 * width, 3), pool(), nn.Flatten()]
    layers += [nn.Dropout(), nn.Linear(4 * width * 16, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def inception_small(width=8):
    layers, last = [*conv_norm(3, 4 * width, 3), nn.ReLU()], 4 * width
    for w in (width, 2 * width):
        layers.append(nn.MaxPool2d(2))
        for _ in range(2):
            layers.append(Inception(last, 2 * w, (2 * w, 4 * w), (w, w), w))
            last = 8 * w
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, 10))


def main(name, seed, path, epochs):
    torch.manual_seed(seed)
    data = read(path)
    x, y = data["train"]
    net = like_nnc({"resnet_cifar": resnet_cifar, "alexnet_small": alexnet_small, "inception_small": inception_small}[name]())
    if name == "resnet_cifar":
        optimiser = torch.optim.SGD(net.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
        rate = one_cycle(0.1)
    else:
        optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
        rate = one_cycle(1e-3 if name == "alexnet_small" else 3e-3)
    loss = lambda rows: F.cross_entropy(net(cropped_and_flipped(x[rows])), y[rows])
    fit(name, seed, net, loss, len(y), 64, epochs, optimiser, rate, test=lambda: classified(net, *data["test"]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
