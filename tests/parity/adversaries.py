"""PyTorch and nnc train `dcgan.nn` from the same weights over the same batches, in f64. In the place of noise, which no two
libraries draw alike, both give the generator the middle of the real images.

    python tests/parity/adversaries.py NNC MNIST      needs pip install torch numpy safetensors; the folder with its four files

Then both losses are equal but for rounding, and so are the weights and the statistics of `batch_norm` afterwards; those of the
generator are the running mean of its training."""

import copy
import csv
import gzip
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from recipes import cosine, stepped
from safetensors.torch import load_file, save_file
from same import EXAMPLES, SEED, shuffled

WIDTH, IMAGES, EPOCHS, BATCH, RATE = 8, 1290, 2, 64, 1e-3
NOISE = "normal([N, latent])"
# The last batch is smaller.
STEPS = EPOCHS * -(-IMAGES // BATCH)


class Generator(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.dense = nn.Linear(100, 4 * width * 16, bias=False)
        sizes = [(4 * width, 2 * width, 3), (2 * width, width, 4), (width, 1, 4)]
        self.convs = nn.ModuleList(nn.ConvTranspose2d(*size, 2, 1, bias=False) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(inputs) for inputs, _, _ in sizes)

    def forward(self, z):
        x = self.dense(z).unflatten(1, (-1, 4, 4))
        for norm, conv in zip(self.norms, self.convs):
            x = conv(F.relu(norm(x)))
        return torch.tanh(x)


class Discriminator(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        sizes = [(1, width, 4), (width, 2 * width, 4), (2 * width, 4 * width, 3)]
        self.convs = nn.ModuleList(nn.Conv2d(*size, 2, 1, bias=False) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(units) for _, units, _ in sizes[1:])
        self.dense = nn.Linear(4 * width * 16, 1)

    def forward(self, image):
        x = F.leaky_relu(self.convs[0](image), 0.2)
        for norm, conv in zip(self.norms, self.convs[1:]):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return self.dense(x.flatten(1))[:, 0]


def exported(name, net, convolution):
    """Parameters and states, where nnc has them."""
    found = {f"{name}.dense_1.w": net.dense.weight.T}
    found |= {f"{name}.dense_1.b": net.dense.bias} if net.dense.bias is not None else {}
    found |= {f"{name}.{convolution}_{at}.w": conv.weight for at, conv in enumerate(net.convs, start=1)}
    for at, norm in enumerate(net.norms, start=1):
        parts = {"scale": norm.weight, "shift": norm.bias, "mean": norm.running_mean, "variance": norm.running_var}
        found |= {f"{name}.batch_norm_{at}.{kind}": value for kind, value in parts.items()}
    return {path: value.detach().clone().contiguous() for path, value in found.items()}


def some_images(mnist, folder):
    """The first images, also as files for nnc."""
    found = []
    for name, header, dims in (("images-idx3", 16, (IMAGES, 28, 28)), ("labels-idx1", 8, (IMAGES,))):
        with gzip.open(f"{mnist}/train-{name}-ubyte.gz") as file:
            values = np.frombuffer(file.read(), np.uint8, np.prod(dims), offset=header).reshape(dims)
        with gzip.open(folder / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(np.array([0x800 + len(dims), *dims], ">u4").tobytes() + values.tobytes())
        found.append(values)
    return torch.tensor(found[0])[:, None] / 127.5 - 1


def ours(nnc, folder):
    """nnc's losses by epoch, and what it ends with."""
    text = (EXAMPLES / "dcgan.nn").read_text()
    (folder / "dcgan.nn").write_text(text.replace(NOISE, "reshape(image[:, :, 9..19, 9..19], [N, 100])"))
    line = [nnc, "train", folder / "dcgan.nn", "--data", folder, "--seed", SEED, "--dtype", "f64", "--threads", 1]
    line += ["--init", folder / "init.safetensors", "--out", folder / "run"]
    line += ["--set", f"epochs={EPOCHS}", f"batch={BATCH}", f"width={WIDTH}", f"rate={RATE}"]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode or "not taken" in done.stderr:
        sys.exit(done.stderr[-2000:])
    with open(folder / "run/metrics.csv", newline="") as file:
        rows = [[float(row[f"train.{step}.loss"]) for step in ("discriminator", "generator")] for row in csv.DictReader(file)]
    return rows, load_file(folder / "run/last.safetensors")


def main(nnc, mnist):
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float64)
    folder = pathlib.Path(tempfile.mkdtemp())
    images, g, d = some_images(mnist, folder), Generator(), Discriminator()
    for conv in [*g.convs, *d.convs]:
        nn.init.normal_(conv.weight, std=0.02)
    save_file(exported("g", g, "enlarge") | exported("d", d, "reduce"), folder / "init.safetensors")
    rows, weights = ours(nnc, folder)
    noise = lambda image: image[:, :, 9:19, 9:19].flatten(1)
    judged = lambda image, real: F.binary_cross_entropy_with_logits(d(image), torch.full([len(image)], real))
    finds = lambda image: judged(image, 1.0) + judged(g(noise(image)).detach(), 0.0)
    deceives = lambda image: judged(g(noise(image)), 1.0)
    adam = lambda net: torch.optim.Adam(net.parameters(), betas=(0.5, 0.999))
    for_d, for_g, mean, step = adam(d), adam(g), copy.deepcopy(g), 0
    for epoch, wanted in enumerate(rows):
        totals = np.zeros(2)
        for order in shuffled(range(IMAGES), 1, epoch).split(BATCH):
            image = images[order]
            found = stepped(d, finds, image, for_d, cosine(RATE)(step, STEPS))
            totals += len(image) * np.array([found, stepped(g, deceives, image, for_g, cosine(2 * RATE)(step, STEPS))])
            with torch.no_grad():
                for slow, fast in zip(mean.parameters(), g.parameters()):
                    slow.lerp_(fast, 1 - min(0.999, (1 + step) / (10 + step)))
            step += 1
        print(f"epoch {epoch + 1}: PyTorch {totals / IMAGES}, nnc {wanted}")
    for slow, fast in zip(mean.buffers(), g.buffers()):
        slow.copy_(fast)
    expected = exported("g", mean, "enlarge") | exported("d", d, "reduce")
    apart = {path: ((weights[path] - value).abs().max() / value.abs().max()).item() for path, value in expected.items()}
    print(f"of {len(apart)} tensors the largest difference is {max(apart.values()):.1e}, relative")


if __name__ == "__main__":
    main(*sys.argv[1:])
