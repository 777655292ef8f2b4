"""Training steps of JAX (XLA on the processor): the networks of `peers_models.py` that were handed to the project in it.

The work of a step is that of PyTorch's: forward, backward, Adam on all parameters, on a batch that is in place.
"""

import jax
import jax.numpy as jnp
import numpy
from jax import lax, random

KEY = random.PRNGKey(0)


def draw(*shape):
    return random.normal(KEY, shape) * 0.05


def linear(parameters, x):
    return x @ parameters[0] + parameters[1]


def mlp(parameters, x):
    hidden = jax.nn.relu(linear(parameters[1], jax.nn.relu(linear(parameters[0], x))))
    return linear(parameters[2], hidden)


def convolution(parameters, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, parameters[0], (1, 1), "SAME", dimension_numbers=numbers) + parameters[1]


def pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def cnn(parameters, x):
    x = pool(jax.nn.relu(convolution(parameters[0], x)))
    x = pool(jax.nn.relu(convolution(parameters[1], x)))
    return linear(parameters[3], jax.nn.relu(linear(parameters[2], x.reshape(x.shape[0], -1))))


def layer_norm(parameters, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * parameters[0] + parameters[1]


def attention(block, x, heads=4):
    batch, length, width = x.shape
    split = lambda t: t.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)
    query, key, value = (split(part) for part in jnp.split(linear(block["qkv"], x), 3, -1))
    scores = query @ key.swapaxes(-1, -2) / numpy.sqrt(width // heads)
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    mixed = (jax.nn.softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(batch, length, width)
    return linear(block["projection"], mixed)


def gpt(parameters, tokens):
    x = parameters["tokens"][tokens] + parameters["positions"][: tokens.shape[1]]
    for block in parameters["blocks"]:
        x = x + attention(block, layer_norm(block["norm1"], x))
        hidden = jax.nn.gelu(linear(block["hidden"], layer_norm(block["norm2"], x)), approximate=False)
        x = x + linear(block["output"], hidden)
    return layer_norm(parameters["norm"], x) @ parameters["head"]


def gpt_block(width):
    norm = lambda: (jnp.ones(width), jnp.zeros(width))
    dense = lambda inputs, outputs: (draw(inputs, outputs), jnp.zeros(outputs))
    return {
        "norm1": norm(), "norm2": norm(), "qkv": dense(width, 3 * width), "projection": dense(width, width),
        "hidden": dense(width, 4 * width), "output": dense(4 * width, width),
    }


def dense_stack(sizes):
    return [(draw(inputs, outputs), jnp.zeros(outputs)) for inputs, outputs in zip(sizes, sizes[1:])]


def cnn_parameters(channels, first, second, side, hidden):
    convolutions = [(draw(3, 3, channels, first), jnp.zeros(first)), (draw(3, 3, first, second), jnp.zeros(second))]
    return convolutions + dense_stack([second * (side // 4) ** 2, hidden, 10])


def images(batch, side, channels):
    return draw(batch, side, side, channels)


def classes(*shape, count=10):
    return random.randint(KEY, shape, 0, count)


def gpt_parameters():
    return {
        "tokens": draw(65, 128), "positions": draw(64, 128), "blocks": [gpt_block(128) for _ in range(4)],
        "norm": (jnp.ones(128), jnp.zeros(128)), "head": draw(128, 65),
    }


# The network, its parameters, its input, its target.
MODELS = {
    "mlp_b128": lambda: (mlp, dense_stack([784, 512, 512, 10]), draw(128, 784), classes(128)),
    "seed_cnn_b64": lambda: (cnn, cnn_parameters(3, 16, 32, 16, 256), images(64, 16, 3), classes(64)),
    "mnist_cnn_b64": lambda: (cnn, cnn_parameters(1, 32, 64, 28, 128), images(64, 28, 1), classes(64)),
    "nanogpt_cpu": lambda: (gpt, gpt_parameters(), classes(12, 64, count=65), classes(12, 64, count=65)),
}


def cross_entropy(logits, label):
    logits, label = logits.reshape(-1, logits.shape[-1]), label.reshape(-1)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], 1))


def adam(parameters, gradients, state, rate=1e-3):
    mean, square, count = state
    count = count + 1
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradients)
    moved = lambda p, m, v: p - rate * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)
    return jax.tree.map(moved, parameters, mean, square), (mean, square, count)


def step(model: str):
    """A function that makes one step; None when the model has no form here."""
    if model not in MODELS:
        return None
    network, parameters, x, label = MODELS[model]()
    state = (jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(()))

    def update(parameters, state, x, label):
        gradients = jax.grad(lambda parameters: cross_entropy(network(parameters, x), label))(parameters)
        return adam(parameters, gradients, state)

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def run():
        nonlocal parameters, state
        parameters, state = jax.block_until_ready(compiled(parameters, state, x, label))

    return run
