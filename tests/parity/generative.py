"""PyTorch twins of `dsl-examples/vae.nn`, `autoencoder.nn`, `denoising_autoencoder.nn`, `conv_autoencoder.nn` and
`matrix_factorisation.nn`.

    python tests/parity/generative.py NETWORK SEED MNIST [EPOCHS]      PyTorch; the folder with its four files
    python tests/parity/generative.py matrix_factorisation SEED dsl-examples/data/ratings.csv [EPOCHS]"""

import gzip
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from recipes import constant, cosine, fit, held_out, like_nnc


def images(folder, part):
    with gzip.open(f"{folder}/{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    return torch.tensor(pixels.reshape(-1, 784)).to(torch.get_default_dtype()) / 255


class Vae(nn.Module):
    def __init__(self, hidden=500, latent=20):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, hidden), nn.Tanh())
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, 784))

    def forward(self, x):
        """How surprising the pixels are, and how far the code is from normal: the two terms of the bound, negated."""
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        logits = self.decoder(mean + torch.exp(log_variance / 2) * torch.randn_like(mean))
        surprise = 784 * F.binary_cross_entropy_with_logits(logits, x)
        return surprise, 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean()


def vae(seed, folder, epochs=20):
    net, train, test = like_nnc(Vae()), images(folder, "train"), images(folder, "t10k")

    def measure():
        surprise, divergence = (sum(parts).item() / 100 for parts in zip(*(net(part) for part in test.split(100))))
        return {"loss": surprise + divergence, "elbo": -(surprise + divergence), "divergence": divergence}

    loss = lambda rows: sum(net(train[rows]))
    fit("vae", seed, net, loss, len(train), 100, epochs, torch.optim.Adam(net.parameters()), constant(1e-3), test=measure)


def autoencoder(seed, folder, epochs=5):
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 256), nn.ReLU())
    net = like_nnc(net.append(nn.Linear(256, 784)).append(nn.Sigmoid()))
    train, test = images(folder, "train"), images(folder, "t10k")
    held, train = (train[rows] for rows in held_out(len(train), 0.05))

    def measure(x):
        made = net(x)
        return {"loss": F.mse_loss(made, x).item(), "absolute_error": F.l1_loss(made, x).item()}

    loss = lambda rows: F.mse_loss(net(train[rows]), train[rows])
    optimiser, rate = torch.optim.Adam(net.parameters()), cosine(2e-3, warmup=100)
    fit("autoencoder", seed, net, loss, len(train), 128, epochs, optimiser, rate, lambda: measure(held), lambda: measure(test))


def of_pixels(logits, x):
    return {"loss": F.binary_cross_entropy_with_logits(logits, x).item(), "squared_error": F.mse_loss(logits.sigmoid(), x).item()}


def in_parts(measure, rows, size):
    """The means of a measure over all rows, a part at a time."""
    found = [(len(part), measure(part)) for part in rows.split(size)]
    return {key: sum(count * part[key] for count, part in found) / len(rows) for key in found[0][1]}


def denoising_autoencoder(seed, folder, epochs=10):
    net = like_nnc(nn.Sequential(nn.Linear(784, 500), nn.Sigmoid(), nn.Linear(500, 784)))
    train, test = images(folder, "train"), images(folder, "t10k")
    restored = lambda x: net(torch.where(torch.rand_like(x) < 0.25, 0, x))
    loss = lambda rows: F.binary_cross_entropy_with_logits(restored(train[rows]), train[rows])
    measure = lambda: in_parts(lambda x: of_pixels(restored(x), x), test, 100)
    optimiser = torch.optim.Adam(net.parameters())
    fit("denoising_autoencoder", seed, net, loss, len(train), 100, epochs, optimiser, constant(1e-3), test=measure)


def conv_autoencoder(seed, folder, epochs=5, width=16, code=16):
    halve = lambda inputs, units: [nn.Conv2d(inputs, units, 3, 2, 1), nn.ReLU()]
    double = lambda inputs, units: nn.ConvTranspose2d(inputs, units, 4, 2, 1)
    deep = 2 * width * 7 * 7
    net = nn.Sequential(*halve(1, width), *halve(width, 2 * width), nn.Flatten(), nn.Linear(deep, code))
    net.extend([nn.Linear(code, deep), nn.ReLU(), nn.Unflatten(1, (2 * width, 7, 7))])
    net = like_nnc(net.extend([double(2 * width, width), nn.ReLU(), double(width, 1)]))
    train, test = (images(folder, part).reshape(-1, 1, 28, 28) for part in ("train", "t10k"))
    loss = lambda rows: F.binary_cross_entropy_with_logits(net(train[rows]), train[rows])
    measure = lambda: in_parts(lambda x: of_pixels(net(x), x), test, 200)
    optimiser, rate = torch.optim.Adam(net.parameters()), cosine(2e-3, warmup=100)
    fit("conv_autoencoder", seed, net, loss, len(train), 128, epochs, optimiser, rate, test=measure)


class Factors(nn.Module):
    def __init__(self, users=80, items=60, factors=3):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros([]))
        self.likes, self.has = (nn.Parameter(0.1 * torch.randn(count, factors)) for count in (users, items))
        self.of_user, self.of_item = (nn.Parameter(torch.zeros(count)) for count in (users, items))

    def forward(self, user, item):
        return (self.likes[user] * self.has[item]).sum(-1) + self.of_user[user] + self.of_item[item] + self.mean


def matrix_factorisation(seed, path, epochs=100):
    table = torch.tensor(np.loadtxt(path, delimiter=",", skiprows=1), dtype=torch.float32)
    table = table[torch.randperm(len(table))]
    count = round(0.1 * len(table))
    test, table = table[:count], table[count:]
    held, train = table[: round(0.1 * len(table))], table[round(0.1 * len(table)) :]
    net = Factors()
    error = lambda rows: F.mse_loss(net(rows[:, 0].long(), rows[:, 1].long()), rows[:, 2])

    def measure(rows):
        loss = error(rows).item()
        return {"loss": loss, "error": loss**0.5}

    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.005)
    loss = lambda rows: error(train[rows])
    held_, test_ = lambda: measure(held), lambda: measure(test)
    fit("matrix_factorisation", seed, net, loss, len(train), 32, epochs, optimiser, cosine(2e-2), held_, test_)


NETWORKS = (vae, autoencoder, denoising_autoencoder, conv_autoencoder, matrix_factorisation)

if __name__ == "__main__":
    torch.manual_seed(int(sys.argv[2]))
    {network.__name__: network for network in NETWORKS}[sys.argv[1]](int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:5]))
