"""PyTorch twins of `dsl-examples/seq2seq_attention.nn` and `transformer_translation.nn`, and the measure of both sides: BLEU
of greedy translations of test_2016_flickr, on words in small letters as `crates/nnc-data` splits them.

    python tests/parity/translation.py seq2seq_attention|transformer_translation SEED DATA EPOCHS      PyTorch 2.9.1
    python tests/parity/translation.py bleu ANSWER.npy DATA      what `nnc run --answer translation --output ANSWER.npy` gave"""

import gzip
import json
import math
import sys
from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from recipes import Block, cosine, fit, like_nnc, numbered, sinusoidal, vocabulary, words

FROM, INTO, LENGTH, WIDTH = 8000, 6000, 24, 128


def read(folder):
    """Words of the German and the English sentences of each part."""
    texts = {}
    for part in ("train", "val", "test_2016_flickr"):
        for language in ("de", "en"):
            with gzip.open(f"{folder}/{part}.{language}.gz", "rt", encoding="utf-8", newline="\n") as file:
                texts[part, language] = [words(line) for line in file]
    return texts


def bleu(found, wanted):
    """Of a corpus, with up to four words in a row, in percent."""
    hits, runs = [0] * 4, [0] * 4
    for ours, theirs in zip(found, wanted, strict=True):
        for n in range(1, 5):
            count = lambda text: Counter(tuple(text[at : at + n]) for at in range(len(text) - n + 1))
            hits[n - 1] += (count(ours) & count(theirs)).total()
            runs[n - 1] += max(len(ours) - n + 1, 0)
    ours, theirs = sum(map(len, found)), sum(map(len, wanted))
    precision = sum(math.log(max(hit, 1e-9) / max(run, 1)) for hit, run in zip(hits, runs)) / 4
    return 100 * math.exp(precision + min(1 - theirs / max(ours, 1), 0))


def spelt(rows, table):
    names = {number: word for word, number in table.items()}
    made = []
    for row in rows:
        row = [int(number) for number in row]
        end = min([row.index(mark) for mark in (0, 3) if mark in row], default=len(row))
        made.append([names.get(number, "<unk>") for number in row[:end]])
    return made


class Recurrent(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.source, self.target = nn.Embedding(FROM, WIDTH), nn.Embedding(INTO, WIDTH)
        self.reader = nn.GRU(WIDTH, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.query, self.memory = nn.Linear(hidden, hidden, bias=False), nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.cell = nn.GRUCell(WIDTH + 2 * hidden, hidden)
        self.narrow, self.head = nn.Linear(3 * hidden, WIDTH), nn.Linear(WIDTH, INTO)

    def read(self, german):
        mask = german != 0
        memory, _ = self.reader(F.dropout(self.source(german), 0.3, self.training))
        weight = mask[..., None].float()
        h = torch.tanh(self.bridge((memory * weight).sum(1) / weight.sum(1)))
        return (memory, self.memory(memory), mask), h

    def write(self, english, context, h):
        memory, known, mask = context
        written = []
        for word in F.dropout(self.target(english), 0.3, self.training).unbind(1):
            scores = self.score(torch.tanh(self.query(h)[:, None] + known))[..., 0].masked_fill(~mask, -1e30)
            seen = (scores.softmax(-1)[:, None] @ memory)[:, 0]
            h = self.cell(torch.cat([word, seen], -1), h)
            written.append(torch.cat([h, seen], -1))
        y = self.narrow(torch.stack(written, 1))
        return self.head(F.dropout(y, 0.3, self.training)), h

    def forward(self, german, english):
        return self.write(english, *self.read(german))[0]

    def translate(self, german):
        context, h = self.read(german)
        word, made = torch.full((len(german),), 2), []
        for _ in range(LENGTH + 1):
            logits, h = self.write(word[:, None], context, h)
            word = logits[:, 0].argmax(-1)
            made.append(word)
        return torch.stack(made, 1)


class Transformer(nn.Module):
    def __init__(self, heads=4, layers=2, rate=0.2):
        super().__init__()
        self.rate = rate
        self.source, self.target = nn.Embedding(FROM, WIDTH), nn.Embedding(INTO, WIDTH)
        self.encoder = nn.ModuleList(Block(WIDTH, heads, 4 * WIDTH, rate) for _ in range(layers))
        self.decoder = nn.ModuleList(Block(WIDTH, heads, 4 * WIDTH, rate, True, True) for _ in range(layers))
        self.between, self.last, self.head = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, INTO)
        self.register_buffer("places", sinusoidal(LENGTH + 1, WIDTH))

    def read(self, german):
        x = F.dropout(self.source(german) + self.places[: german.shape[1]], self.rate, self.training)
        for block in self.encoder:
            x = block(x, german != 0)
        return self.between(x)

    def write(self, english, memory, mask):
        x = F.dropout(self.target(english) + self.places[: english.shape[1]], self.rate, self.training)
        for block in self.decoder:
            x = block(x, mask, memory)
        return self.head(self.last(x))

    def forward(self, german, english):
        return self.write(english, self.read(german), german != 0)

    def translate(self, german):
        memory, text = self.read(german), torch.full((len(german), 1), 2)
        for _ in range(LENGTH + 1):
            logits = self.write(text, memory, german != 0)
            text = torch.cat([text, logits[:, -1:].argmax(-1)], 1)
        return text[:, 1:]


def main(name, seed, folder, epochs):
    torch.manual_seed(seed)
    texts = read(folder)
    tables = {language: vocabulary(texts["train", language], size) for language, size in (("de", FROM), ("en", INTO))}
    rows = {(part, language): numbered(found, tables[language], LENGTH) for (part, language), found in texts.items()}

    def pair(part):
        english = rows[part, "en"]
        begun, ended = F.pad(english, (1, 0), value=2), F.pad(english, (0, 1))
        ended[torch.arange(len(english)), (english != 0).sum(1)] = 3
        return rows[part, "de"], begun, ended

    attention = name == "seq2seq_attention"
    net = like_nnc(Recurrent() if attention else Transformer())
    trained = [p for p in net.parameters() if p.requires_grad]
    if attention:
        optimiser, rate, smoothing = torch.optim.Adam(trained), cosine(1e-3, warmup=200), 0.0
    else:
        optimiser, rate, smoothing = torch.optim.AdamW(trained, weight_decay=1e-4), cosine(1e-3, warmup=400), 0.1

    def loss(german, begun, ended):
        scores = net(german, begun).flatten(0, 1)
        return F.cross_entropy(scores, ended.flatten(), ignore_index=0, label_smoothing=smoothing)

    def measure(part):
        batches = list(zip(*(rows.split(64) for rows in pair(part))))
        return {"loss": sum(loss(*batch).item() * len(batch[0]) for batch in batches) / len(rows[part, "de"])}

    def test():
        made = torch.cat([net.translate(batch) for batch in rows["test_2016_flickr", "de"].split(200)])
        found = spelt(made, tables["en"])
        return measure("test_2016_flickr") | {"bleu": bleu(found, texts["test_2016_flickr", "en"])}

    german, begun, ended = pair("train")
    step = lambda batch: loss(german[batch], begun[batch], ended[batch])
    fit(name, seed, net, step, len(german), 64, epochs, optimiser, rate, lambda: measure("val"), test, 1.0)


if __name__ == "__main__":
    if sys.argv[1] == "bleu":
        texts = read(sys.argv[3])
        found = spelt(np.load(sys.argv[2]), vocabulary(texts["train", "en"], INTO))
        print(json.dumps({"bleu": bleu(found, texts["test_2016_flickr", "en"][: len(found)])}))
        for ours, theirs in list(zip(found, texts["test_2016_flickr", "en"]))[:4]:
            print(" ".join(ours), "|", " ".join(theirs))
    else:
        main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
