"""PyTorch twins of `dsl-examples/sentiment_*.nn`: the same words, networks, initial values, optimiser and schedule.

    python tests/parity/sentiment.py cnn|lstm|transformer SEED DATA [EPOCHS]      PyTorch 2.9.1; DATA has train.tsv and so on
"""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from recipes import Block, classified, cosine, fit, like_nnc, numbered, sinusoidal, vocabulary, words

# Kind: epochs, learning rate, steps of warmup, clip_norm, words of a sentence.
RECIPES = {"cnn": (12, 1e-3, 100, 0, 50), "lstm": (10, 2e-3, 100, 1.0, 40), "transformer": (15, 1e-3, 200, 1.0, 50)}


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(8000, 128)
        nn.init.uniform_(self.e.weight, -0.25, 0.25)
        self.c = nn.ModuleList(nn.Conv1d(128, 100, k, padding=k // 2) for k in (3, 4, 5))
        self.d = nn.Linear(300, 2)

    def forward(self, x):
        h = F.dropout(self.e(x), 0.3, self.training).transpose(1, 2)
        h = torch.cat([F.relu(c(h)).amax(-1) for c in self.c], -1)
        return self.d(F.dropout(h, 0.5, self.training))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(8000, 128)
        self.l = nn.LSTM(128, 64, batch_first=True, bidirectional=True)
        self.d = nn.Linear(128, 2)

    def forward(self, x):
        h, _ = self.l(F.dropout(self.e(x), 0.5, self.training))
        h = h.masked_fill((x == 0)[..., None], -1e30).amax(1)
        return self.d(F.dropout(h, 0.5, self.training))


class Transformer(nn.Module):
    def __init__(self, length=50):
        super().__init__()
        self.e = nn.Embedding(8000, 128)
        self.t = Block(128, 4, 256, 0.3)
        self.n = nn.LayerNorm(128)
        self.d = nn.Linear(128, 2)
        self.register_buffer("p", sinusoidal(length, 128))

    def forward(self, x):
        mask = x != 0
        h = F.dropout(self.e(x) + self.p, 0.3, self.training)
        h = self.n(self.t(h, mask))
        weight = mask[..., None].float()
        return self.d(F.dropout((h * weight).sum(1) / weight.sum(1), 0.5, self.training))


def main(kind, seed, data, epochs=None):
    torch.manual_seed(seed)
    planned, lr, warmup, clip, length = RECIPES[kind]
    rows = {}
    for part in ("train", "dev", "test"):
        with open(f"{data}/{part}.tsv", encoding="utf-8") as file:
            rows[part] = [line.rstrip("\n").split("\t") for line in file]
    texts = {part: [words(text) for text, _ in found] for part, found in rows.items()}
    labels = {part: torch.tensor([int(label) for _, label in found]) for part, found in rows.items()}
    table = vocabulary(texts["train"], 8000)
    tokens = {part: numbered(found, table, length) for part, found in texts.items()}
    net = like_nnc({"cnn": Cnn, "lstm": Lstm, "transformer": Transformer}[kind]())
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], weight_decay=0.01)
    loss = lambda batch: F.cross_entropy(net(tokens["train"][batch]), labels["train"][batch])
    dev, test = (lambda part=part: classified(net, tokens[part], labels[part]) for part in ("dev", "test"))
    count, epochs = len(labels["train"]), epochs or planned
    fit(f"sentiment_{kind}", seed, net, loss, count, 50, epochs, optimiser, cosine(lr, warmup), dev, test, clip)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:5]))
