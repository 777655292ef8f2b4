"""PyTorch twins of `dsl-examples/spoken_digits.nn` and `spoken_digits_lstm.nn`: the same log-mel spectrum, masks, network,
optimiser and schedule; the test speaker is theo, lucas serves for validation.

    python tests/parity/speech.py cnn|lstm SEED fsdd.tar.gz [EPOCHS]      PyTorch 2.9.1
"""

import io
import math
import sys
import tarfile
import wave

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from recipes import classified, fit, like_nnc, one_cycle


def log_mel(x, rate, window, hop, mels, low):
    turn, place, bins = 2 * math.pi / window, torch.arange(window), window // 2 + 1
    hann = 0.5 - 0.5 * torch.cos(place * turn)
    angle = (torch.arange(bins)[:, None] * place % window) * turn
    basis = torch.cat([angle.cos() * hann, -angle.sin() * hann])[:, None, :]
    parts = F.conv1d(x[:, None, :], basis, stride=hop)
    power = parts[:, :bins] ** 2 + parts[:, bins:] ** 2
    first, last = 1127 * math.log(1 + low / 700), 1127 * math.log(1 + 0.5 * rate / 700)
    edge = 700 * (torch.exp((first + torch.arange(mels + 2) * ((last - first) / (mels + 1))) / 1127) - 1)
    frequency = torch.arange(bins) * (0.5 * rate / (bins - 1))
    rise = (frequency - edge[:mels, None]) / (edge[1:-1] - edge[:mels])[:, None]
    fall = (edge[2:, None] - frequency) / (edge[2:] - edge[1:-1])[:, None]
    return torch.log(torch.minimum(rise, fall).clamp(min=0) @ power + 1e-6)


def read(path, hop):
    """Spectra and labels by the part they belong to."""
    parts = {"train": [], "lucas": [], "theo": []}
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            name = member.name.rsplit("/", 1)[-1]
            if not name.endswith(".wav") or name.startswith("."):
                continue
            with wave.open(io.BytesIO(archive.extractfile(member).read())) as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768.0
            samples = np.pad(samples[:6400], (0, max(0, 6400 - len(samples)))).astype(np.float32)
            digit, speaker, _ = name.split("_")
            parts[speaker if speaker in parts else "train"].append((samples, int(digit)))
    made = {}
    for part, rows in parts.items():
        energies = log_mel(torch.tensor(np.stack([x for x, _ in rows])), 8000, 256, hop, 40, 60.0)
        spectrum = (energies - energies.amax((1, 2), keepdim=True)).clamp(min=-8) / 4 + 1
        made[part] = spectrum, torch.tensor([digit for _, digit in rows])
    return made


def shift(x, by):
    """Each example moved along both axes; its border is repeated."""
    n, h, w = x.shape
    down = torch.randint(-by, by + 1, (n, 1, 1)) + torch.arange(h)[:, None]
    right = torch.randint(-by, by + 1, (n, 1, 1)) + torch.arange(w)
    return x[torch.arange(n)[:, None, None], down.clamp(0, h - 1), right.clamp(0, w - 1)]


def band(x, most, axis):
    n, length = len(x), x.shape[axis]
    place = torch.arange(length) - torch.randint(0, length - most + 1, (n, 1))
    inside = (place >= 0) & (place < torch.randint(0, most + 1, (n, 1)))
    return x.masked_fill(inside[:, :, None] if axis == 1 else inside[:, None, :], -1.0)


class Cnn(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        layers, last = [], 1
        for channels in (width, 2 * width, 4 * width, 4 * width):
            layers += [nn.Conv2d(last, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
            last = channels
        self.body = nn.Sequential(*layers[:-1])
        self.head = nn.Linear(last, 10)

    def forward(self, x):
        return self.head(F.dropout(self.body(x[:, None]).mean((2, 3)), 0.3, self.training))


class Lstm(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.body = nn.LSTM(40, hidden, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.head = nn.Linear(2 * hidden, 10)

    def forward(self, x):
        y, _ = self.body(x.transpose(1, 2))
        return self.head(F.dropout(y.amax(1), 0.3, self.training))


def main(kind, seed, path, epochs=30):
    torch.manual_seed(seed)
    hop, by, times, clip = (80, 5, 12, 0) if kind == "cnn" else (160, 4, 8, 1.0)
    data = read(path, hop)
    net = like_nnc(Cnn() if kind == "cnn" else Lstm())
    x, y = data["train"]
    augmented = lambda rows: band(band(shift(x[rows], by), 8, 1), times, 2)
    loss = lambda rows: F.cross_entropy(net(augmented(rows)), y[rows], label_smoothing=0.1)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], weight_decay=0.01)
    name = "spoken_digits" if kind == "cnn" else "spoken_digits_lstm"
    smooth = lambda part: {
        "loss": F.cross_entropy(net(data[part][0]), data[part][1], label_smoothing=0.1).item(),
        "accuracy": classified(net, *data[part])["accuracy"],
    }
    fit(name, seed, net, loss, len(y), 32, epochs, optimiser, one_cycle(2e-3), lambda: smooth("lucas"), lambda: smooth("theo"), clip)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:5]))
