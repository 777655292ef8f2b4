"""The PyTorch twins of `mnist_cnn_parity.nn` and `mnist_mlp_parity.nn`: `python mnist.py DATA OUT`.

DATA is the folder with the four files of MNIST. The weights are too large to be kept, so OUT is a folder outside of the
repository or below `target/`; `README.md` says how the test is pointed at it.
"""

import gzip
import pathlib
import sys

import numpy
import torch
import twin


def idx(path: pathlib.Path) -> numpy.ndarray:
    """An array of bytes from an IDX file."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    dims = numpy.frombuffer(content, ">u4", rank, 4).astype(int)
    return numpy.frombuffer(content, numpy.uint8, offset=4 + 4 * rank).reshape(dims)


def main():
    data, out = (pathlib.Path(argument) for argument in sys.argv[1:])
    pixels = torch.from_numpy(idx(data / "train-images-idx3-ubyte.gz")[:6400].copy())
    images = lambda dtype: ((pixels.to(dtype) / 255 - 0.1307) / 0.3081).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(idx(data / "train-labels-idx1-ubyte.gz")[:6400].astype(numpy.int64))
    convolutions = lambda: twin.ConvNet(28, (32, 64), 128)
    perceptron = lambda: twin.Perceptron([784, 512, 512, 10])
    twin.record("mnist_cnn", out, convolutions, images, labels, batch=64, steps=100)
    twin.record("mnist_mlp", out, perceptron, images, labels, batch=64, steps=100)


main()
