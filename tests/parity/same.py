"""PyTorch and nnc from the same weights over the same batches: an epoch of the recipes that the twins have, in f64, without
dropout. Then nothing is left to chance, and the losses of both are equal but for rounding.

    python tests/parity/same.py NNC NAME TWIN_DATA [NNC_DATA] [EPOCHS]      needs pip install torch numpy safetensors

NAME is one of those below. NNC_DATA is the folder of the data where it is not TWIN_DATA. Only the first epochs can agree to
many digits: training amplifies rounding."""

import csv
import functools
import gzip
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file

import recipes

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "dsl-examples"
SEED, WORD = 1, 0xFFFFFFFF
# The twin, and where nnc has the layers of its network.
BLOCK = {"attend": "attend", "look": "look", "think.0": "think.dense_1", "think.2": "think.dense_2"}
NORMS = ("first_norm", "second_norm", "third_norm")
block = lambda theirs, ours: {f"{theirs}.{key}": f"{ours}.{path}" for key, path in BLOCK.items()} | {
    f"{theirs}.norms.{at}": f"{ours}.{norm}" for at, norm in enumerate(NORMS)
}
SENTENCES = {"e": "embedding_1", "d": "dense_1"}
CONVOLUTIONS = {f"c.{at}": f"block[{at}].conv1d_1" for at in range(3)}
ATTENTION = {"query": "write.look.query", "memory": "write.look.memory", "score": "write.look.score"}
READER = {"source": "read.embedding_1", "reader": "read.gru_1", "bridge": "read.dense_1", "cell": "write.cell"}
WRITER = {"target": "write.embedding_1", "narrow": "write.dense_1", "head": "write.dense_2"}
ENDS = {"between": "read.layer_norm_1", "last": "write.layer_norm_1", "head": "write.dense_1"}
STACKS = {"encoder": "read.block[{}].transformer_encoder_block_1", "decoder": "write.block[{}].cached_decoder_block_1"}
TRANSFORMER = {key: path for name, ours in STACKS.items() for at in (0, 1) for key, path in block(f"{name}.{at}", ours.format(at)).items()}
GPT = {key: path for at in range(4) for key, path in block(f"blocks.{at}", f"block[{at}].cached_transformer_block_1").items()}
LAYERS = {0: "Encoder_1.dense_1", 2: "Encoder_1.dense_2", 4: "Decoder_1.dense_1", 6: "Decoder_1.dense_2"}
NETWORKS = {
    "autoencoder": ("generative", {str(at): path for at, path in LAYERS.items()}),
    "sentiment_cnn": ("sentiment", SENTENCES | CONVOLUTIONS | {"e.weight": "vectors"}),
    "sentiment_lstm": ("sentiment", SENTENCES | {"l": "lstm_1"}),
    "sentiment_transformer": ("sentiment", SENTENCES | block("t", "block[0].transformer_encoder_block_1") | {"n": "layer_norm_1"}),
    "nanogpt": ("language", GPT | {"norm": "layer_norm_1", "table": "table", "places": "learnt_positions_1.w"}),
    "seq2seq_attention": ("translation", READER | ATTENTION | WRITER),
    "transformer_translation": ("translation", TRANSFORMER | READER | WRITER | ENDS),
}


def philox(counter, key):
    """As `crates/nnc-data/src/random.rs`."""
    for _ in range(10):
        low, high = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(high >> 32) ^ counter[1] ^ key[0], high & WORD, (low >> 32) ^ counter[3] ^ key[1], low & WORD]
        key = [(key[0] + 0x9E3779B9) & WORD, (key[1] + 0xBB67AE85) & WORD]
    return counter


def shuffled(rows, purpose, epoch=0):
    """The order that nnc gives the rows; purpose 1 is an epoch, 2 what is held out."""
    words = (word for at in range(2**32) for word in philox([at, 0, epoch, purpose], [SEED, 0]))
    bits = (low | high << 32 for low, high in zip(words, words))
    rows = list(rows)
    for last in range(len(rows) - 1, 0, -1):
        chosen = (next(bits) * (last + 1)) >> 64
        rows[last], rows[chosen] = rows[chosen], rows[last]
    return torch.tensor(rows)


def held_out(count, fraction):
    order = shuffled(range(count), 2)
    held = round(fraction * count)
    return order[:held].sort()[0], order[held:].sort()[0]


def named(path, places):
    """nnc's name of a tensor of PyTorch."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if (place := places.get(".".join(parts[:end]))) is not None:
            return ".".join([place, *parts[end:]])
    raise KeyError(f"nnc has no name for {path}")


def exported(net, places):
    """The weights of a network, where nnc looks for them."""
    for path, value in net.named_parameters():
        owner, _, kind = path.rpartition(".")
        layer, place = net.get_submodule(owner), named(path, places)
        if isinstance(layer, torch.nn.Linear):
            place = f"{named(owner, places)}.{kind[0]}"
        elif isinstance(layer, torch.nn.LayerNorm):
            place = f"{named(owner, places)}.{'scale' if kind == 'weight' else 'shift'}"
        turned = isinstance(layer, torch.nn.Linear) and kind == "weight"
        yield place, (value.data.T if turned else value.data).contiguous().clone()


def without_dropout(name, folder):
    """The example with every dropout at 0."""
    text = (EXAMPLES / f"{name}.nn").read_text()
    text = re.sub(r"dropout\(0\.\d+\)|dropout=0\.\d+", lambda found: re.sub(r"0\.\d+", "0.0", found[0]), text)
    text = re.sub(r"rate: float = 0\.\d+", "rate: float = 0.0", text)
    (folder / f"{name}.nn").write_text(text)
    return folder / f"{name}.nn"


def ours(nnc, name, data, epochs, folder):
    """nnc's losses of training and of validation, by epoch."""
    line = [nnc, "train", without_dropout(name, folder), "--data", data, "--seed", SEED, "--dtype", "f64", "--threads", 1]
    line += ["--init", folder / "init.safetensors", "--out", folder / "run", "--set", f"epochs={epochs}"]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode or "not taken" in done.stderr:
        sys.exit(done.stderr[-2000:])
    with open(folder / "run/metrics.csv", newline="") as file:
        return [(float(row["train.loss"]), float(row["validation.loss"])) for row in csv.DictReader(file)]


def translated(nnc, name, net, data, folder):
    """The share of the words of the test's translations in which both sides agree, after training."""
    import translation

    texts = translation.read(data)
    table = recipes.vocabulary(texts["train", "de"], translation.FROM)
    german = recipes.numbered(texts["test_2016_flickr", "de"], table, translation.LENGTH)
    with gzip.open(f"{data}/test_2016_flickr.de.gz") as file:
        (folder / "german.txt").write_bytes(file.read())
    line = [nnc, "run", folder / f"{name}.nn", "--weights", folder / "run/last.safetensors", "--dtype", "f64"]
    line += ["--answer", "translation", "--input", f"german={folder / 'german.txt'}", "--bind", f"N={len(german)}"]
    subprocess.run([str(word) for word in [*line, "--output", folder / "words.npy"]], check=True, stdout=subprocess.DEVNULL)
    with torch.no_grad():
        return (net.translate(german).numpy() == np.load(folder / "words.npy")).mean()


def main(nnc, name, theirs, data=None, epochs=1):
    epochs, folder = int(epochs), pathlib.Path(tempfile.mkdtemp())
    module, places = NETWORKS[name]

    def follow(_, seed, net, loss, count, batch, planned, optimiser, rate, validate, test, clip=0, stop_at=0):
        net.double().eval()
        save_file(dict(exported(net, places)), folder / "init.safetensors")
        wanted = ours(nnc, name, data or theirs, epochs, folder)
        step, steps = 0, epochs * math.ceil(count / batch)
        for epoch, (train, held) in enumerate(wanted):
            total = 0.0
            for rows in shuffled(range(count), 1, epoch).split(batch):
                total += recipes.stepped(net, loss, rows, optimiser, rate(step, steps), clip) * len(rows)
                step += 1
            with torch.no_grad():
                found = validate()["loss"]
            print(f"{name} epoch {epoch + 1}: training {total / count:.10f}, nnc {train:.10f};", end=" ")
            print(f"validation {found:.10f}, nnc {held:.10f}", flush=True)
        if module == "translation":
            print(f"translations agree in {100 * translated(nnc, name, net, theirs, folder):.2f} % of their words")

    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float64)
    recipes.fit, recipes.held_out = follow, held_out
    twin = __import__(module)
    make = twin.autoencoder if name == "autoencoder" else functools.partial(twin.main, name.removeprefix("sentiment_"))
    make(SEED, theirs, epochs)


if __name__ == "__main__":
    main(*sys.argv[1:])
