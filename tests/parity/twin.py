"""What the PyTorch twins share: record a run that `nnc` must follow.

`record` starts a model from PyTorch's initial weights, takes batches in the order of the rows and writes
`NAME_init.safetensors` (the weights, in nnc's paths and layouts) and `NAME_losses.json` (the loss of each step, in f32
and in f64 from the same weights). `crates/nnc-driver/tests/parity.rs` does the same through `nnc` and compares.

Needs `pip install torch numpy safetensors`. The files are written again only when a model changes: another version of
PyTorch may round otherwise, which the tolerance covers.
"""

import copy
import json
import pathlib

import torch
from safetensors.torch import save_file

LEARNING_RATE = 1e-3
EPSILON = 1e-8
SEED = 0


class ConvNet(torch.nn.Module):
    """Two 3 x 3 convolutions, each with relu and a 2 x 2 maximum, and two fully connected layers."""

    def __init__(self, side: int, channels: tuple[int, int], hidden: int):
        super().__init__()
        self.conv2d_1 = torch.nn.Conv2d(1, channels[0], 3, padding=1)
        self.conv2d_2 = torch.nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.dense_1 = torch.nn.Linear(channels[1] * (side // 4) ** 2, hidden)
        self.dense_2 = torch.nn.Linear(hidden, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv2d_1(image)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv2d_2(x)), 2)
        return self.dense_2(torch.relu(self.dense_1(x.flatten(1))))


class Perceptron(torch.nn.Module):
    """Fully connected layers of the given widths, with relu between."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.layers = len(widths) - 1
        for number, (inputs, units) in enumerate(zip(widths, widths[1:]), start=1):
            setattr(self, f"dense_{number}", torch.nn.Linear(inputs, units))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.flatten(1)
        for number in range(1, self.layers):
            x = torch.relu(getattr(self, f"dense_{number}")(x))
        return getattr(self, f"dense_{self.layers}")(x)


def weights_for_nnc(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters by nnc's paths; nnc's dense layers hold `w: [inputs, units]`, the transpose of PyTorch's."""
    tensors = {}
    for path, value in model.state_dict().items():
        layer, kind = path.split(".")
        transposed = layer.startswith("dense") and kind == "weight"
        value = value.T if transposed else value
        tensors[f"{layer}.{'w' if kind == 'weight' else 'b'}"] = value.contiguous().clone()
    return tensors


def losses(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int, steps: int) -> list[float]:
    """The loss of each step of Adam on rows 0..batch, batch..2 * batch and so on; a last smaller batch is left out."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=EPSILON)
    batches = len(images) // batch
    found = []
    for step in range(steps):
        rows = slice(step % batches * batch, (step % batches + 1) * batch)
        loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def record(name: str, folder: pathlib.Path, make, images, labels: torch.Tensor, batch: int, steps: int):
    """Writes the two files of a run; `images(dtype)` computes them as the twin `.nn` file does."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    single = make()
    double = copy.deepcopy(single).double()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights_for_nnc(single), folder / f"{name}_init.safetensors")
    run = {
        "made_with": f"PyTorch {torch.__version__.split('+')[0]}, tests/parity",
        "batch": batch,
        "f32": losses(single, images(torch.float32), labels, batch, steps),
        "f64": losses(double, images(torch.float64), labels, batch, steps),
    }
    (folder / f"{name}_losses.json").write_text(json.dumps(run, indent=1) + "\n")
    apart = max(abs(a - b) / abs(b) for a, b in zip(run["f32"], run["f64"]))
    print(f"{name}: {steps} steps, loss {run['f32'][0]:.4f} to {run['f32'][-1]:.4f};", end=" ")
    print(f"f32 and f64 are at most {apart:.1e} apart (relative)")
