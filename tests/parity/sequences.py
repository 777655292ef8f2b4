"""The PyTorch twin of `sequences_parity.nn`: writes `sequences_init.safetensors` and `sequences_losses.json` beside itself."""

import pathlib

import numpy
import torch
import torch.nn as nn
import twin
from recipes import Block, cosine, like_nnc
from same import block, exported

HERE = pathlib.Path(__file__).parent
DATA = HERE / "../../dsl-examples/data/digits.csv.gz"
PLACES = block("think", "transformer_encoder_block_1") | {
    "table": "embedding_1", "read": "lstm_1", "again": "gru_1", "norm": "layer_norm_1", "head": "dense_1"
}


class Reader(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.table = nn.Embedding(17, width)
        self.read = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.again = nn.GRU(2 * width, 2 * width, batch_first=True)
        self.think = Block(2 * width, 2, 8 * width)
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, 10)

    def forward(self, tokens):
        x = self.again(self.read(self.table(tokens))[0])[0]
        return self.head(self.norm(self.think(x)).mean(1))


def recipe(model):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser, rate = torch.optim.AdamW(trained, betas=(0.9, 0.99), weight_decay=0.1), cosine(2e-3, warmup=20, final=1e-4)

    def update(step, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, steps)
        nn.utils.clip_grad_norm_(trained, 0.5)
        optimiser.step()

    return update


rows = numpy.loadtxt(DATA, delimiter=",", dtype=numpy.int64)
tokens, labels = torch.from_numpy(rows[:, :64]), torch.from_numpy(rows[:, 64])
weights = lambda model: dict(exported(model, PLACES))
twin.record("sequences", HERE, lambda: like_nnc(Reader()), lambda _: tokens, labels, 32, 100, recipe, weights)
