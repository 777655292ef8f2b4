"""What the PyTorch twins share: record a run that `nnc` must follow.

`record` starts a model from PyTorch's initial weights, takes batches in the order of the rows and writes
`NAME_init.safetensors` (the weights, in nnc's paths and layouts) and `NAME_losses.json`: the loss of each step in f32
and in f64 from the same weights, and for how many steps PyTorch follows itself, see `well_conditioned`.
`crates/nnc-driver/tests/parity.rs` does the same through `nnc` and compares.

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
# A tenth of what nnc is held to in f32.
SELF_TOLERANCE = 1e-5


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


def adam(model: torch.nn.Module):
    """The usual recipe: what `losses` calls in each step, given the number of the step and of all."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=EPSILON)
    return lambda step, steps: optimizer.step()


def losses(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int, steps: int, recipe) -> list[float]:
    """The loss of each step on rows 0..batch, batch..2 * batch and so on; a last smaller batch is left out."""
    update = recipe(model)
    batches = len(images) // batch
    found = []
    for step in range(steps):
        rows = slice(step % batches * batch, (step % batches + 1) * batch)
        loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
        model.zero_grad()
        loss.backward()
        update(step, steps)
        found.append(loss.item())
    return found


def moved_by_one_rounding(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy with each weight as it is, or its neighbour up or down, at random."""
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in moved.parameters():
            value.mul_(1 + torch.randint(-1, 2, value.shape, generator=generator) * 2.0**-23)
    return moved


def well_conditioned(runs: list[list[float]]) -> int:
    """In how many steps the losses of all runs are the first's within `SELF_TOLERANCE`, relative.

    Training amplifies rounding: a relu or a maximum that falls to the other side moves the loss for good. After these
    steps PyTorch does not follow PyTorch from weights that differ in their last bit, so nothing else can."""
    close = lambda losses: all(abs(loss - losses[0]) <= SELF_TOLERANCE * abs(losses[0]) for loss in losses)
    apart = [step for step, losses in enumerate(zip(*runs)) if not close(losses)]
    return min(apart, default=len(runs[0]))


def record(
    name: str, folder: pathlib.Path, make, images, labels: torch.Tensor, batch: int, steps: int, recipe=adam, weights=weights_for_nnc
):
    """Writes the two files of a run; `images(dtype)` computes them as the twin `.nn` file does."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    single = make()
    double = copy.deepcopy(single).double()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(single), folder / f"{name}_init.safetensors")
    moved = [moved_by_one_rounding(single, seed) for seed in range(1, 6)]
    run = lambda model, dtype: losses(model, images(dtype), labels, batch, steps, recipe)
    single_losses, double_losses = run(single, torch.float32), run(double, torch.float64)
    conditioned = well_conditioned([single_losses, double_losses] + [run(model, torch.float32) for model in moved])
    saved = {
        "made_with": f"PyTorch {torch.__version__.split('+')[0]}, tests/parity",
        "batch": batch,
        "well_conditioned_steps": conditioned,
        "f32": single_losses,
        "f64": double_losses,
    }
    (folder / f"{name}_losses.json").write_text(json.dumps(saved, indent=1) + "\n")
    print(f"{name}: {steps} steps, loss {single_losses[0]:.4f} to {single_losses[-1]:.4f};", end=" ")
    print(f"PyTorch follows itself within {SELF_TOLERANCE} for {conditioned} of them")
