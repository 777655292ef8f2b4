"""PyTorch twins of `dsl-examples/char_rnn.nn`, `char_lstm.nn`, `char_gru.nn` and `nanogpt.nn`: the same windows of text (the
end is held out), networks, optimisers and schedules.

    python tests/parity/language.py char_rnn|char_lstm|char_gru|nanogpt SEED tinyshakespeare.txt [EPOCHS]      PyTorch 2.9.1

`nanogpt` also tells the validation loss after 2,000 steps."""

import math
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from recipes import Block, constant, cosine, fit, like_nnc


def windows(path, length=64):
    """Rows of `length + 1` characters, each beginning with the last one of the row before, in three parts."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    number = {character: at for at, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[character] for character in text])
    rows = tokens.unfold(0, length + 1, length)
    kept = len(rows) - round(0.05 * len(rows))
    trained = kept - round(0.05 * kept)
    return rows[:trained], rows[trained:kept], rows[kept:]


class Recurrent(nn.Module):
    def __init__(self, kind, hidden=256):
        super().__init__()
        self.table = nn.Embedding(65, 64)
        self.body = kind(64, hidden, 2, batch_first=True)
        self.head = nn.Linear(hidden, 65)

    def forward(self, tokens):
        return self.head(self.body(self.table(tokens))[0])


class Gpt(nn.Module):
    def __init__(self, longest=64, layers=4, heads=4, width=128):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width, causal=True) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.table = nn.Parameter(0.02 * torch.randn(65, width))
        self.places = nn.Parameter(0.02 * torch.randn(longest, width))

    def forward(self, tokens):
        x = self.table[tokens] + self.places[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.table.T


def main(name, seed, path, epochs=2):
    torch.manual_seed(seed)
    train, validation, test = windows(path)
    if name == "nanogpt":
        net, batch, rate, clip = Gpt(), 12, cosine(1e-3, warmup=100, final=1e-4), 1.0
    else:
        net = Recurrent({"char_rnn": nn.RNN, "char_lstm": nn.LSTM, "char_gru": nn.GRU}[name])
        batch, (rate, clip) = 32, (constant(1e-3), 1.0) if name == "char_rnn" else (constant(2e-3), 5.0)
    like_nnc(net)
    trained = [p for p in net.parameters() if p.requires_grad]
    if name == "nanogpt":
        optimiser = torch.optim.AdamW(trained, betas=(0.9, 0.99), weight_decay=0.1)
    else:
        optimiser = torch.optim.Adam(trained)
    entropy = lambda rows: F.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    def measure(rows):
        loss = sum(entropy(part).item() * len(part) for part in rows.split(32)) / len(rows)
        return {"loss": loss, "bits_per_character": loss / math.log(2)}

    loss = lambda rows: entropy(train[rows])
    held = lambda: measure(validation)
    fit(name, seed, net, loss, len(train), batch, epochs, optimiser, rate, held, lambda: measure(test), clip, 2000)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:5]))
