"""PyTorch twins of `dsl-examples/sentiment_*.nn`: the same words, networks, optimiser and schedule; initial weights and the
order of examples are PyTorch's own, so that what agrees is the accuracy, not the loss of a step.

    python tests/parity/sentiment.py cnn|lstm|transformer SEED DATA      PyTorch 2.9.1; DATA has train.tsv, dev.tsv, test.tsv
"""

import math
import re
import sys
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F

MARK = re.compile(r"[!-/:-@\[-`{-~]")
# Kind: epochs, learning rate, steps of warmup, clip_norm, words of a sentence.
RECIPES = {"cnn": (12, 1e-3, 100, 0, 50), "lstm": (10, 2e-3, 100, 1.0, 40), "transformer": (15, 1e-3, 200, 1.0, 50)}


def run_of(text):
    return re.match(re.escape(text[0]) + "+", text).group()


def words(text):
    """As `crates/nnc-data/src/vocabulary.rs` splits, for ASCII."""
    found = []
    for chunk in text.lower().split():
        while chunk and MARK.match(chunk[0]) and not (chunk[0] == "'" and chunk[1:2].isalnum()):
            found.append(run_of(chunk))
            chunk = chunk[len(found[-1]) :]
        end = len(chunk)
        while end and MARK.match(chunk[end - 1]):
            end -= 1
        if end:
            found.append(chunk[:end])
        tail = chunk[end:]
        while tail:
            found.append(run_of(tail))
            tail = tail[len(found[-1]) :]
    return found


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
        self.t = nn.TransformerEncoderLayer(128, 4, 256, 0.3, "gelu", batch_first=True, norm_first=True)
        self.n = nn.LayerNorm(128)
        self.d = nn.Linear(128, 2)
        angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, 128, 2) / 128)
        self.register_buffer("p", torch.stack([angle.sin(), angle.cos()], -1).reshape(length, 128))

    def forward(self, x):
        mask = x != 0
        h = F.dropout(self.e(x) + self.p, 0.3, self.training)
        h = self.n(self.t(h, src_key_padding_mask=~mask))
        weight = mask[..., None].float()
        return self.d(F.dropout((h * weight).sum(1) / weight.sum(1), 0.5, self.training))


def main(kind, seed, data):
    torch.manual_seed(seed)
    epochs, lr, warmup, clip, length = RECIPES[kind]
    rows = {}
    for part in ("train", "dev", "test"):
        with open(f"{data}/{part}.tsv", encoding="utf-8") as file:
            rows[part] = [line.rstrip("\n").split("\t") for line in file]
    texts = {part: [words(text) for text, _ in found] for part, found in rows.items()}
    labels = {part: torch.tensor([int(label) for _, label in found]) for part, found in rows.items()}
    counts = Counter(word for text in texts["train"] for word in text)
    table = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:7996]
    number = {word: at + 4 for at, (word, _) in enumerate(table)}
    row = lambda text: ([number.get(word, 1) for word in text[:length]] + [0] * length)[:length]
    tokens = {part: torch.tensor([row(text) for text in found]) for part, found in texts.items()}

    net = {"cnn": Cnn, "lstm": Lstm, "transformer": Transformer}[kind]()
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01)
    count = len(tokens["train"])
    steps = epochs * math.ceil(count / 50)
    factor = lambda i: (i + 1) / warmup if i < warmup else 0.5 + 0.5 * math.cos(math.pi * (i - warmup) / (steps - warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)

    def measure(part):
        with torch.no_grad():
            scores = torch.cat([net(batch) for batch in tokens[part].split(200)])
        loss = F.cross_entropy(scores, labels[part]).item()
        return loss, 100 * (scores.argmax(-1) == labels[part]).float().mean().item()

    for epoch in range(epochs):
        net.train()
        for batch in torch.randperm(count).split(50):
            optimiser.zero_grad()
            F.cross_entropy(net(tokens["train"][batch]), labels["train"][batch]).backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimiser.step()
            schedule.step()
        net.eval()
        (loss, accuracy), (_, test) = measure("dev"), measure("test")
        print(f"{kind} seed {seed} epoch {epoch + 1}: dev loss {loss:.4f} accuracy {accuracy:.2f} %, test {test:.2f} %", flush=True)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
