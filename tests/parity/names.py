"""Answers of PyTorch's and torchvision's modules, for the names that models give their parameters.

`python tests/parity/names.py` writes `names.json`: for each case a model in nnc's language, the tensors of PyTorch's
state_dict, an input, and what PyTorch answers. The tensors themselves are made from their names (`numbers`), here and in
`crates/nnc-driver/tests/names.rs`, so that none need be kept. The networks of torchvision are slimmed: every number of
channels is divided, nothing else is changed.

`python tests/parity/names.py --full NNC [NETWORK...]` compares the networks at their full size through the command line:
`nnc run` with PyTorch's file of weights. Needs `pip install torch torchvision safetensors`.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import torch.nn as nn
import torchvision

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "dsl-examples"
TOLERANCE = 1e-4


def numbers(name: str, count: int) -> numpy.ndarray:
    """Numbers from -1 up to 1 that depend on the name: FNV-1a of it, and SplitMix64 from there."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with numpy.errstate(over="ignore"):
        mixed = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> numpy.uint64(31))
    return (mixed >> numpy.uint64(11)).astype(numpy.float64) / 2**52 - 1


def plan(name: str, tensor: torch.Tensor, normalises: bool) -> dict:
    """How a tensor is made: `shift + scale * numbers`."""
    last = name.rsplit(".", 1)[-1]
    shift, scale = 0.0, 0.1
    if last == "running_var" or (normalises and last == "weight"):
        shift, scale = 1.0, 0.5
    elif tensor.dim() > 1:
        # The variance of the numbers is 1/3: a rectified sum keeps its size.
        scale = math.sqrt(6 / math.prod(tensor.shape[1:]))
    return {"name": name, "dtype": "i64" if tensor.dtype == torch.int64 else "f32", "dims": list(tensor.shape),
            "shift": shift, "scale": scale}


NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.RMSNorm)


def fill(module: nn.Module) -> list[dict]:
    """Gives a module its numbers; says how they are made."""
    norms = {name for name, part in module.named_modules() if isinstance(part, NORMS)}
    plans, state = [], module.state_dict()
    for name, tensor in state.items():
        made = plan(name, tensor, name.rpartition(".")[0] in norms)
        if made["dtype"] == "f32":
            values = made["shift"] + made["scale"] * numbers(name, tensor.numel())
            tensor.copy_(torch.from_numpy(values.astype(numpy.float32)).reshape(tensor.shape))
        plans.append(made)
    return plans


def slim(module: nn.Module, divisor: int, classes: int) -> nn.Module:
    """Divides every number of channels but those of the image and the classes."""
    share = lambda channels: channels if channels in (1, 3) else channels // divisor
    for name, part in module.named_modules():
        parent = module.get_submodule(name.rpartition(".")[0]) if "." in name else module
        leaf = name.rpartition(".")[2]
        if isinstance(part, nn.Conv2d):
            groups = part.groups if part.groups == 1 else part.groups // divisor
            part = nn.Conv2d(share(part.in_channels), part.out_channels // divisor, part.kernel_size, part.stride,
                             part.padding, part.dilation, groups, part.bias is not None)
        elif isinstance(part, nn.BatchNorm2d):
            part = nn.BatchNorm2d(part.num_features // divisor, eps=part.eps)
        elif isinstance(part, nn.Linear):
            out = part.out_features if part.out_features == classes else part.out_features // divisor
            part = nn.Linear(part.in_features // divisor, out)
        else:
            continue
        setattr(parent, leaf, part)
    return module


# The model, torchvision's builder, what slimming divides by, the arguments of the slim one.
NETWORKS = {
    "resnet18": ("ResNet18", torchvision.models.resnet18, 16, "width=4"),
    "resnet50": ("ResNet50", torchvision.models.resnet50, 16, "width=4"),
    "mobilenet_v2": ("MobileNetV2", torchvision.models.mobilenet_v2, 8, "divisor=8"),
    "alexnet": ("AlexNet", torchvision.models.alexnet, 16, "width=4, hidden=256"),
    "vgg16": ("Vgg16", torchvision.models.vgg16, 16, "width=4, hidden=256"),
    "googlenet": ("GoogLeNet", torchvision.models.googlenet, 8, "divisor=8"),
}


def built(name: str, classes: int) -> nn.Module:
    """A network of torchvision without auxiliary classifiers."""
    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return NETWORKS[name][1](num_classes=classes, **more)


def network(name: str, side: int, classes: int = 10, transform_input: bool = False) -> dict:
    """A slim network; `transform_input` as torchvision sets it for the weights of GoogLeNet that it publishes."""
    model, _, divisor, arguments = NETWORKS[name]
    made = built(name, classes)
    if transform_input:
        made.transform_input, arguments = True, arguments + ", transform_input=true"
    source = f'use "@/{name}.nn"\nmodel Case(x: f32[N, 3, {side}, {side}]) -> f32[N, {classes}] {{\n'
    source += f'    names = {{ "": "{model}_1" }}\n    return {model}(x, classes={classes}, {arguments})\n}}\n'
    title = name + (" transform_input" if transform_input else "")
    return case(title, slim(made, divisor, classes), source, [2, 3, side, side])


def case(name: str, module: nn.Module, source: str, dims: list[int], size: int = 0, call=None) -> dict:
    """A case; with `size` its input are whole numbers below that."""
    plans = fill(module.eval())
    values = numbers("x", math.prod(dims)).reshape(dims)
    example = numpy.floor((values + 1) / 2 * size).astype(numpy.int64) if size else values.astype(numpy.float32)
    with torch.inference_mode():
        answer = (call or (lambda module, x: module(x)))(module, torch.from_numpy(example))
    return {"name": name, "source": source, "dims": dims, "size": size, "tensors": plans,
            "answer": [float(f"{value:.6g}") for value in answer.flatten().tolist()]}


def module(name: str, made: nn.Module, dims: list[int], signature: str, body: str, **more) -> dict:
    """A case of one layer of the library, which stands where the module stands: its names have no prefix."""
    layer = body.split("(")[0]
    source = f'model Case(x: {signature}) {{\n    names = {{ "": "{layer}_1" }}\n'
    return case(name, made, source + "    return " + body.replace("(", "(x, ", 1).replace("(x, )", "(x)") + "\n}\n", dims, **more)


def modules() -> list[dict]:
    first = lambda module, x: module(x)[0]
    itself = lambda module, x: module(x, x, x, need_weights=False)[0]
    mine = lambda module, x: module(x, x)
    sequence, image = "f32[N, 5, 8]", "f32[N, 8, 6, 6]"
    encoder = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    decoder = nn.TransformerDecoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    cells = lambda module, x: module(x)[0] if isinstance(module, nn.LSTMCell) else module(x)
    zero = "zeros([N, 6])"
    return [
        module("Linear", nn.Linear(8, 3), [2, 5, 8], sequence, "dense(3)"),
        module("Embedding", nn.Embedding(9, 4), [2, 5], "i32[N, 5]", "embedding(9, 4)", size=9),
        module("Conv1d", nn.Conv1d(5, 4, 3), [2, 5, 8], sequence, "conv1d(4, kernel=3)"),
        module("Conv2d", nn.Conv2d(8, 4, 3, groups=2), [2, 8, 6, 6], image, "conv2d(4, kernel=3, groups=2)"),
        module("depthwise Conv2d", nn.Conv2d(8, 8, 3, groups=8), [2, 8, 6, 6], image, "depthwise_conv2d(kernel=3)"),
        module("ConvTranspose2d", nn.ConvTranspose2d(8, 4, 2, 2), [2, 8, 6, 6], image,
               "conv_transpose2d(4, kernel=2, stride=2)"),
        module("BatchNorm2d", nn.BatchNorm2d(8), [2, 8, 6, 6], image, "batch_norm()"),
        module("GroupNorm", nn.GroupNorm(2, 8), [2, 8, 6, 6], image, "group_norm(groups=2)"),
        module("InstanceNorm2d", nn.InstanceNorm2d(8, affine=True), [2, 8, 6, 6], image, "instance_norm(affine=true)"),
        module("LayerNorm", nn.LayerNorm(8), [2, 5, 8], sequence, "layer_norm()"),
        module("RMSNorm", nn.RMSNorm(8, eps=1e-6), [2, 5, 8], sequence, "rms_norm()"),
        module("RNN", nn.RNN(8, 6, 2, batch_first=True, bidirectional=True), [2, 5, 8], sequence,
               "rnn(6, layers=2, bidirectional=true)", call=first),
        module("LSTM", nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True), [2, 5, 8], sequence,
               "lstm(6, layers=2, bidirectional=true)", call=first),
        module("GRU", nn.GRU(8, 6, 2, batch_first=True, bidirectional=True), [2, 5, 8], sequence,
               "gru(6, layers=2, bidirectional=true)", call=first),
        module("RNNCell", nn.RNNCell(8, 6), [2, 8], "f32[N, 8]", f"rnn_cell({zero})", call=cells),
        module("LSTMCell", nn.LSTMCell(8, 6), [2, 8], "f32[N, 8]", f"lstm_cell({zero}, {zero})", call=cells),
        module("GRUCell", nn.GRUCell(8, 6), [2, 8], "f32[N, 8]", f"gru_cell({zero})", call=cells),
        module("MultiheadAttention", nn.MultiheadAttention(8, 2, batch_first=True), [2, 5, 8], sequence,
               "multi_head_attention(heads=2)", call=itself),
        module("TransformerEncoderLayer", encoder, [2, 5, 8], sequence, "transformer_encoder_block(heads=2, hidden=16)"),
        module("TransformerDecoderLayer", decoder, [2, 5, 8], sequence,
               "transformer_decoder_block(x, heads=2, hidden=16, causal=false)", call=mine),
    ]


def full(nnc: str, names: list[str]):
    """The networks at their full size, with torchvision's own first weights and other statistics of batch_norm."""
    from safetensors.torch import save_file

    for name in names or NETWORKS:
        torch.manual_seed(0)
        made = built(name, 1000).eval()
        with torch.no_grad():
            for part in made.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.weight.uniform_(0.5, 1.5), part.bias.normal_(0, 0.1)
                    part.running_mean.normal_(0, 0.1), part.running_var.uniform_(0.5, 1.5)
        example = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            wanted = made(example).numpy()
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            save_file(made.state_dict(), folder / "weights.safetensors")
            numpy.save(folder / "x.npy", example.numpy())
            model = NETWORKS[name][0]
            source = f'use "{EXAMPLES / name}.nn"\nmodel Full(x: f32[N, 3, 224, 224]) -> f32[N, 1000] {{\n'
            source += f'    layer net = {model}() from "weights.safetensors"\n    return net(x)\n}}\n'
            (folder / "full.nn").write_text(source)
            command = [nnc, "run", folder / "full.nn", "--input", folder / "x.npy", "--output", folder / "y.npy"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found = numpy.load(folder / "y.npy")
        difference = numpy.abs(found - wanted).max() / numpy.abs(wanted).max()
        count = sum(parameter.numel() for parameter in made.parameters())
        print(f"{name:14} {count:>11,} parameters, differs by {difference:.1e} of the largest", flush=True)
        assert difference < TOLERANCE


def main():
    if len(sys.argv) > 2 and sys.argv[1] == "--full":
        return full(sys.argv[2], sys.argv[3:])
    cases = modules()
    for name in NETWORKS:
        # With an odd side some windows reach over the edge.
        cases.append(network(name, 75))
    cases.append(network("googlenet", 75, transform_input=True))
    text = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "names.json").write_text(f"[\n{text}\n]\n")


main()
