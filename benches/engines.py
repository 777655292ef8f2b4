"""What `compare.py` measures: processes that wait for orders. A line `K` asks for K steps; the answer is the seconds of each.

`Nnc` runs the examples `infer` and `step` of the crate `nnc-driver`, `Peer` runs `peer.py`. Each engine is a process of its
own, so that one's threads and memory are not another's; between its steps it sleeps.
"""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
# The name in peers_models.INFER: the file below models/inference/, the rows of a call, the name of the input.
INFERENCE = {
    "matmul_1024": ("matmul.nn", 1024, "x"),
    "seed_cnn_b1": ("seed_cnn.nn", 1, "image"),
    "seed_cnn_b64": ("seed_cnn.nn", 64, "image"),
    "mnist_cnn_b1": ("mnist_cnn.nn", 1, "image"),
    "mnist_cnn_b64": ("mnist_cnn.nn", 64, "image"),
    "mlp_b1": ("mlp.nn", 1, "x"),
    "mlp_b64": ("mlp.nn", 64, "x"),
    "char_lstm_b1": ("char_lstm.nn", 1, "tokens"),
    "nanogpt_b1": ("nanogpt.nn", 1, "tokens"),
    "minilm_b1": ("minilm.nn", 1, "tokens"),
    "unet_b1": ("unet.nn", 1, "image"),
    "resnet18_b1": ("resnet18.nn", 1, "image"),
    "resnet50_b1": ("resnet50.nn", 1, "image"),
    "mobilenet_b1": ("mobilenet.nn", 1, "image"),
    "alexnet_b1": ("alexnet.nn", 1, "image"),
    "googlenet_b1": ("googlenet.nn", 1, "image"),
}
# The name in peers_models.TRAIN: the file below models/, the batch, the data files that it names.
TRAINING = {
    "mlp_b128": ("mlp.nn", 128, "images.npy", "labels.npy"),
    "seed_cnn_b64": ("seed_cnn.nn", 64, "images.npy", "labels.npy"),
    "mnist_cnn_b64": ("mnist_cnn.nn", 64, "images.npy", "labels.npy"),
    "autoenc_b128": ("autoencoder.nn", 128, "images.npy", "targets.npy"),
    "char_lstm_b32": ("char_lstm.nn", 32, "tokens.npy", "next.npy"),
    "nanogpt_cpu": ("nanogpt.nn", 12, "tokens.npy", "next.npy"),
    "resnet18_cifar_b32": ("resnet18_cifar.nn", 32, "images.npy", "labels.npy"),
}
PEERS = {
    "infer": ["torch", "torch.compile", "onnxruntime", "openvino"],
    "int8": ["onnxruntime", "openvino"],
    "train": ["torch", "torch.compile", "jax"],
}


class Failed(Exception):
    """An engine that could not be started; says why."""


class Engine:
    """A process that waits for orders."""

    def __init__(self, command: list):
        words = [str(word) for word in command]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready"):
            self.close()
            raise Failed(line.strip() or "it ended; its message is above")
        # The seconds that compiling took; by nnc also the operations and the bytes of a step, and in training the losses of
        # the first ones.
        self.facts = [float(word) for word in line.split()[1:]]

    def steps(self, count: int) -> list[float]:
        """Seconds of each of `count` steps."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed("it ended in the middle of a round; its message is above")
        return [float(word) for word in line.split()]

    def peak_memory(self) -> float:
        """The largest resident set so far, in MB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build():
    """By cargo, so that what is measured is what the sources say."""
    command = ["cargo", "build", "--release", "-q", "--workspace", "--bins", "--examples"]
    subprocess.run(command, check=True, cwd=HERE.parent)


def reference(model: str) -> pathlib.Path:
    """The folder with the weights, the input and the answer of PyTorch for a model, and its ONNX form."""
    folder = TARGET / "compare" / model
    if not (folder / "model.onnx").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, HERE / "reference.py", model, folder], check=True)
    return folder


def losses(model: str) -> pathlib.Path:
    """The folder with the first weights, a batch and PyTorch's losses of the first steps of training a model on it."""
    folder = TARGET / "compare" / "train" / model
    if not (folder / "losses.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = TRAINING[model][2:]
        subprocess.run([sys.executable, HERE / "reference.py", model, folder, *data], check=True)
    return folder


def quantised(kind: str, model: str) -> pathlib.Path:
    """The weights of a model in eight bits: nnc's (`int8`, `int8 all`), or the peers' form (`onnx`); made once a sitting."""
    folder = reference(model)
    if kind == "onnx":
        path = folder / "model.int8.onnx"
        command = [sys.executable, HERE / "int8_form.py", model, folder]
    else:
        path = folder / f"weights.{kind.replace(' ', '.')}.safetensors"
        file, rows, name = INFERENCE[model]
        command = [TARGET / "release" / "nnc", "quantise", HERE / "models" / "inference" / file, "-o", path]
        command += ["--weights", folder / "weights.safetensors", "--input", f"{name}={folder / 'input.npy'}"]
        command += ["--bind", f"N={rows}"] + (["--all"] if kind == "int8 all" else [])
    if path not in MADE:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise Failed((done.stderr.strip().splitlines() or ["it could not be quantised"])[-1])
        MADE.add(path)
    return path


# What `quantised` has made.
MADE: set[pathlib.Path] = set()


def nnc(kind: str, model: str, threads: int, unfused: bool = False) -> Engine:
    """nnc's engine for a model; of kind `f32` without Winograd's form, of kind `infer` with it."""
    examples = TARGET / "release" / "examples"
    if kind == "train":
        file, batch, *_ = TRAINING[model]
        command = [examples / "step", HERE / "models" / file, "--batch", batch, "--threads", threads]
        command += ["--reference", losses(model)]
        return Engine(command + (["--no-fuse"] if unfused else []))
    file, rows, name = INFERENCE[model]
    folder = reference(model)
    command = [examples / "infer", HERE / "models" / "inference" / file, "--rows", rows, "--threads", threads]
    command += ["--input", f"{name}={folder / 'input.npy'}", "--output", folder / "answer.npy"]
    weights = quantised(kind, model) if kind.startswith("int8") else folder / "weights.safetensors"
    return Engine(command + ["--weights", weights] + (["--no-winograd"] if kind == "f32" else []))


def peer(kind: str, name: str, model: str, threads: int) -> Engine:
    """A peer's engine for a model."""
    folder = [reference(model)] if kind != "train" else []
    if kind == "int8":
        quantised("onnx", model)
    return Engine([sys.executable, HERE / "peer.py", kind, name, model, threads] + folder)


def difference(model: str) -> float:
    """By how much nnc's answer and PyTorch's differ at most, relative to the largest number of PyTorch's."""
    import numpy

    folder = reference(model)
    ours, theirs = numpy.load(folder / "answer.npy"), numpy.load(folder / "expected.npy")
    if ours.shape != theirs.shape:
        raise Failed(f"the answer is {ours.shape}, PyTorch's is {theirs.shape}")
    return float(numpy.abs(ours - theirs).max() / numpy.abs(theirs).max())


def loss_difference(model: str, engine: Engine) -> float:
    """By how much nnc's losses of the first steps and PyTorch's differ at most, relative to PyTorch's first one."""
    ours, theirs = engine.facts[3:], json.loads((losses(model) / "losses.json").read_text())
    if len(ours) != len(theirs):
        raise Failed(f"there are {len(ours)} losses, PyTorch's are {len(theirs)}")
    return max(abs(our - their) for our, their in zip(ours, theirs)) / abs(theirs[0])


def roofline(threads: int) -> tuple[float, float]:
    """What the machine can do: operations, and bytes from memory, a second."""
    command = [TARGET / "release" / "examples" / "infer", "--roofline", "--threads", str(threads)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    flops, bandwidth = text.split()
    return float(flops), float(bandwidth)
