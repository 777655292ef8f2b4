"""Writes `library.txt`: what PyTorch computes for the cases below, values and derivatives, in double precision.

    python library.py > library.txt        PyTorch 2.15.0, torchvision 0.29.2

Every tensor is a ramp: element `i` is `(i % cycle - shift) / scale`, of a mask whether `i % cycle != shift`. A case is

    case NAME
    input NAME DTYPE DIMS CYCLE SHIFT SCALE
    value PATH DIMS CYCLE SHIFT SCALE            a parameter or state
    expression NN
    result NUMBERS
    grad NUMBERS                                 of sum(result * ramp(7, 2, 3)) by the first input
"""

import math
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

torch.set_default_dtype(torch.float64)


def ramp(dims, cycle, shift, scale, dtype=torch.float64):
    count = math.prod(dims)
    place = torch.arange(count) % cycle
    if dtype == torch.bool:
        return (place != shift).reshape(dims)
    if dtype == torch.int32:
        return place.to(torch.int64).reshape(dims)
    return ((place - shift) / scale).to(torch.float64).reshape(dims)


def show(numbers):
    return " ".join(f"{x:.13g}" for x in numbers.detach().reshape(-1).tolist())


NAMES = {"f32": torch.float64, "bool": torch.bool, "i32": torch.int32}


def case(name, expression, inputs, values, function, grad=True):
    """`inputs` and `values` are (name, [dtype,] dims, cycle, shift, scale); `function` takes their tensors."""
    print(f"case {name}")
    tensors = []
    for at, (label, dtype, dims, cycle, shift, scale) in enumerate(inputs):
        print(f"input {label} {dtype} {','.join(map(str, dims))} {cycle} {shift} {scale}")
        tensor = ramp(dims, cycle, shift, scale, NAMES[dtype])
        tensors.append(tensor.requires_grad_() if at == 0 and grad else tensor)
    parameters = {}
    for label, dims, cycle, shift, scale in values:
        print(f"value {label} {','.join(map(str, dims))} {cycle} {shift} {scale}")
        parameters[label] = ramp(dims, cycle, shift, scale)
    print(f"expression {expression}")
    result = function(*tensors, parameters)
    print(f"result {show(result)}")
    if grad:
        weights = ramp(list(result.shape), 7, 2, 3)
        (derivative,) = torch.autograd.grad((result * weights).sum(), tensors[0])
        print(f"grad {show(derivative)}")
    print()


IMAGE = ("x", "f32", [2, 4, 5, 6], 7, 3, 2)
SMALL = ("x", "f32", [1, 2, 5, 7], 11, 4, 3)


def convolutions():
    case("conv1d", "conv1d(x, 6, kernel=3, stride=2, padding=1, groups=2)", [("x", "f32", [2, 4, 9], 7, 3, 2)],
         [("conv1d_1.w", [6, 2, 3], 5, 2, 4), ("conv1d_1.b", [6], 3, 1, 2)],
         lambda x, p: F.conv1d(x, p["conv1d_1.w"], p["conv1d_1.b"], stride=2, padding=1, groups=2))
    case("conv1d dilated", "conv1d(x, 2, kernel=3, dilation=3, bias=false)", [("x", "f32", [1, 2, 11], 7, 3, 2)],
         [("conv1d_1.w", [2, 2, 3], 5, 2, 4)],
         lambda x, p: F.conv1d(x, p["conv1d_1.w"], dilation=3))
    case("conv2d grouped", "conv2d(x, 4, kernel=3, stride=[2, 1], padding=1, groups=2)", [("x", "f32", [1, 4, 5, 4], 7, 3, 2)],
         [("conv2d_1.w", [4, 2, 3, 3], 5, 2, 4), ("conv2d_1.b", [4], 3, 1, 2)],
         lambda x, p: F.conv2d(x, p["conv2d_1.w"], p["conv2d_1.b"], stride=(2, 1), padding=1, groups=2))
    case("depthwise_conv2d", "depthwise_conv2d(x, kernel=[3, 2], padding=[1, 0], multiplier=2)", [SMALL],
         [("depthwise_conv2d_1.w", [4, 1, 3, 2], 5, 2, 4), ("depthwise_conv2d_1.b", [4], 3, 1, 2)],
         lambda x, p: F.conv2d(x, p["depthwise_conv2d_1.w"], p["depthwise_conv2d_1.b"], padding=(1, 0), groups=2))
    case("conv_transpose2d", "conv_transpose2d(x, 3, kernel=3, stride=2, padding=1, output_padding=1)",
         [("x", "f32", [1, 2, 3, 4], 7, 3, 2)],
         [("conv_transpose2d_1.w", [2, 3, 3, 3], 5, 2, 4), ("conv_transpose2d_1.b", [3], 3, 1, 2)],
         lambda x, p: F.conv_transpose2d(x, p["conv_transpose2d_1.w"], p["conv_transpose2d_1.b"], stride=2, padding=1, output_padding=1))
    case("conv_transpose2d grouped",
         "conv_transpose2d(x, 2, kernel=[2, 3], stride=[3, 2], padding=[0, 1], output_padding=[2, 0], dilation=[2, 1], groups=2, bias=false)",
         [("x", "f32", [1, 4, 2, 3], 7, 3, 2)], [("conv_transpose2d_1.w", [4, 1, 2, 3], 5, 2, 4)],
         lambda x, p: F.conv_transpose2d(x, p["conv_transpose2d_1.w"], stride=(3, 2), padding=(0, 1), output_padding=(2, 0), dilation=(2, 1), groups=2))


def pools():
    for height, width, kernel, stride, padding in [(5, 7, 2, 2, 0), (5, 7, 3, 2, 1), (6, 8, 3, 2, 0), (5, 4, 3, 3, 1), (4, 7, 2, 3, 1)]:
        case(f"max_pool2d of {height} x {width} by {kernel}, {stride}, {padding}",
             f"max_pool2d(x, {kernel}, stride={stride}, padding={padding}, ceil_mode=true)",
             [("x", "f32", [1, 1, height, width], 13, 4, 3)], [],
             lambda x, p: F.max_pool2d(x, kernel, stride, padding, ceil_mode=True))
    case("avg_pool2d with padding", "avg_pool2d(x, 3, stride=2, padding=1)", [SMALL], [],
         lambda x, p: F.avg_pool2d(x, 3, 2, 1))
    case("avg_pool2d without padding", "avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=false)", [SMALL], [],
         lambda x, p: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
    for size in [[3, 4], [2, 7], [5, 1], [7, 9]]:
        case(f"adaptive_avg_pool2d to {size[0]} x {size[1]}", f"adaptive_avg_pool2d(x, {size})", [SMALL], [],
             lambda x, p: F.adaptive_avg_pool2d(x, size))


def norms():
    scaled = lambda name, count: [(f"{name}_1.scale", [count], 3, -1, 2), (f"{name}_1.shift", [count], 5, 2, 4)]
    image = ("x", "f32", [2, 4, 2, 3], 11, 3, 2)
    case("group_norm", "group_norm(x, groups=2)", [image], scaled("group_norm", 4),
         lambda x, p: F.group_norm(x, 2, p["group_norm_1.scale"], p["group_norm_1.shift"]))
    case("group_norm of vectors", "group_norm(x, groups=2)", [("x", "f32", [3, 4], 11, 3, 2)], scaled("group_norm", 4),
         lambda x, p: F.group_norm(x, 2, p["group_norm_1.scale"], p["group_norm_1.shift"]))
    case("instance_norm", "instance_norm(x)", [image], [], lambda x, p: F.instance_norm(x))
    case("instance_norm with scales", "instance_norm(x, affine=true)", [image], scaled("instance_norm", 4),
         lambda x, p: F.instance_norm(x, weight=p["instance_norm_1.scale"], bias=p["instance_norm_1.shift"]))
    case("rms_norm", "rms_norm(x, epsilon=1e-5)", [("x", "f32", [2, 3, 4], 11, 3, 2)], scaled("rms_norm", 4)[:1],
         lambda x, p: F.rms_norm(x, [4], p["rms_norm_1.scale"], 1e-5))


def images():
    for size in [[10, 14], [4, 9], [5, 3]]:
        case(f"resize_nearest to {size[0]} x {size[1]}", f"resize_nearest(x, {size})", [SMALL], [],
             lambda x, p: F.interpolate(x, size, mode="nearest"))
        case(f"resize_bilinear to {size[0]} x {size[1]}", f"resize_bilinear(x, {size})", [SMALL], [],
             lambda x, p: F.interpolate(x, size, mode="bilinear", align_corners=False))
    case("pixel_shuffle", "pixel_shuffle(x, 2)", [("x", "f32", [2, 8, 2, 3], 101, 3, 2)], [],
         lambda x, p: F.pixel_shuffle(x, 2))


def projections(prefix, width, memory, bias=True):
    """Four layers of attention; no two alike."""
    made = []
    for at, (name, size) in enumerate([("query", width), ("key", memory), ("value", memory), ("output", width)]):
        made.append((f"{prefix}{name}.w", [size, width], 13 + at, 6, 10 - at))
        if bias:
            made.append((f"{prefix}{name}.b", [width], 3, 1, 4 + at))
    return made


def attend(x, memory, p, prefix, heads, mask=None, causal=False):
    dense = lambda x, name: F.linear(x, p[f"{prefix}{name}.w"].T, p[f"{prefix}{name}.b"])
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k, v = split(dense(x, "query")), split(dense(memory, "key")), split(dense(memory, "value"))
    allowed = None if mask is None else mask[:, None, None, :]
    seen = F.scaled_dot_product_attention(q, k, v, allowed, is_causal=causal)
    return dense(seen.transpose(1, 2).flatten(2), "output")


def attentions():
    x = ("x", "f32", [2, 3, 4], 17, 8, 5)
    memory = ("m", "f32", [2, 5, 6], 19, 8, 7)
    mask = ("k", "bool", [2, 5], 4, 2, 1)
    own = "multi_head_attention_1."
    case("self attention", "multi_head_attention(x, heads=2)", [x], projections(own, 4, 4),
         lambda x, p: attend(x, x, p, own, 2))
    case("causal attention", "multi_head_attention(x, heads=4, causal=true)", [x], projections(own, 4, 4),
         lambda x, p: attend(x, x, p, own, 4, causal=True))
    case("cross attention", "multi_head_attention(x, m, heads=2)", [x, memory], projections(own, 4, 6),
         lambda x, m, p: attend(x, m, p, own, 2))
    case("masked attention", "multi_head_attention(x, m, k, heads=2)", [x, memory, mask], projections(own, 4, 6),
         lambda x, m, k, p: attend(x, m, p, own, 2, mask=k))

    # PyTorch's own module, its packed weights filled with ours.
    def module(x, p):
        layer = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        with torch.no_grad():
            layer.in_proj_weight.copy_(torch.cat([p[f"{own}{n}.w"].T for n in ["query", "key", "value"]]))
            layer.in_proj_bias.copy_(torch.cat([p[f"{own}{n}.b"] for n in ["query", "key", "value"]]))
            layer.out_proj.weight.copy_(p[f"{own}output.w"].T)
            layer.out_proj.bias.copy_(p[f"{own}output.b"])
        return layer(x, x, x)[0]

    case("attention of the module", "multi_head_attention(x, heads=2)", [x], projections(own, 4, 4), module)

    block = "transformer_encoder_block_1."

    def norm(x, p, name):
        return F.layer_norm(x, [4], p[f"{name}.scale"], p[f"{name}.shift"])

    def think(x, p, prefix, activation):
        hidden = activation(F.linear(x, p[f"{prefix}think.dense_1.w"].T, p[f"{prefix}think.dense_1.b"]))
        return F.linear(hidden, p[f"{prefix}think.dense_2.w"].T, p[f"{prefix}think.dense_2.b"])

    def norms(prefix, names):
        return [v for n in names for v in [(f"{prefix}{n}.scale", [4], 3, -1, 2), (f"{prefix}{n}.shift", [4], 5, 2, 4)]]

    def perceptron(prefix, hidden):
        return [(f"{prefix}think.dense_1.w", [4, hidden], 11, 5, 9), (f"{prefix}think.dense_1.b", [hidden], 3, 1, 4),
                (f"{prefix}think.dense_2.w", [hidden, 4], 7, 3, 8), (f"{prefix}think.dense_2.b", [4], 3, 1, 4)]

    values = projections(f"{block}attend.", 4, 4) + norms(block, ["first_norm", "second_norm"]) + perceptron(block, 8)

    def encoder(x, k, p, before):
        look = lambda x: attend(x, x, p, f"{block}attend.", 2, mask=k)
        if before:
            x = x + look(norm(x, p, f"{block}first_norm"))
            return x + think(norm(x, p, f"{block}second_norm"), p, block, F.gelu)
        x = norm(x + look(x), p, f"{block}first_norm")
        return norm(x + think(x, p, block, F.relu), p, f"{block}second_norm")

    own_mask = ("k", "bool", [2, 3], 4, 2, 1)
    case("encoder block", "transformer_encoder_block(x, k, heads=2, hidden=8)", [x, own_mask], values,
         lambda x, k, p: encoder(x, k, p, True))
    case("encoder block, norm after", "transformer_encoder_block(x, k, heads=2, hidden=8, pre_norm=false, activation=relu)",
         [x, own_mask], values, lambda x, k, p: encoder(x, k, p, False))

    def encoder_module(x, p):
        layer = torch.nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)
        with torch.no_grad():
            a = f"{block}attend."
            layer.self_attn.in_proj_weight.copy_(torch.cat([p[f"{a}{n}.w"].T for n in ["query", "key", "value"]]))
            layer.self_attn.in_proj_bias.copy_(torch.cat([p[f"{a}{n}.b"] for n in ["query", "key", "value"]]))
            layer.self_attn.out_proj.weight.copy_(p[f"{a}output.w"].T)
            layer.self_attn.out_proj.bias.copy_(p[f"{a}output.b"])
            for ours, theirs in [("think.dense_1", layer.linear1), ("think.dense_2", layer.linear2)]:
                theirs.weight.copy_(p[f"{block}{ours}.w"].T)
                theirs.bias.copy_(p[f"{block}{ours}.b"])
            for ours, theirs in [("first_norm", layer.norm1), ("second_norm", layer.norm2)]:
                theirs.weight.copy_(p[f"{block}{ours}.scale"])
                theirs.bias.copy_(p[f"{block}{ours}.shift"])
        return layer(x)

    case("encoder block of the module", "transformer_encoder_block(x, heads=2, hidden=8, pre_norm=false, activation=relu)",
         [x], values, encoder_module)

    block_2 = "transformer_decoder_block_1."
    narrow = ("m", "f32", [2, 5, 6], 19, 8, 7)
    values_2 = projections(f"{block_2}attend.", 4, 4) + projections(f"{block_2}look.", 4, 6)
    values_2 += norms(block_2, ["first_norm", "second_norm", "third_norm"]) + perceptron(block_2, 16)

    def decoder(x, m, k, p, before):
        look = lambda x: attend(x, x, p, f"{block_2}attend.", 2, causal=True)
        other = lambda x: attend(x, m, p, f"{block_2}look.", 2, mask=k)
        n = lambda x, name: norm(x, p, f"{block_2}{name}")
        if before:
            x = x + look(n(x, "first_norm"))
            x = x + other(n(x, "second_norm"))
            return x + think(n(x, "third_norm"), p, block_2, F.gelu)
        x = n(x + look(x), "first_norm")
        x = n(x + other(x), "second_norm")
        return n(x + think(x, p, block_2, F.gelu), "third_norm")

    case("decoder block", "transformer_decoder_block(x, m, k, heads=2)", [x, narrow, mask], values_2,
         lambda x, m, k, p: decoder(x, m, k, p, True))
    case("decoder block, norm after", "transformer_decoder_block(x, m, k, heads=2, pre_norm=false)", [x, narrow, mask],
         values_2, lambda x, m, k, p: decoder(x, m, k, p, False))

    def bahdanau(q, m, k, p):
        name = "additive_attention_1."
        asked = F.linear(q, p[f"{name}query.w"].T)[:, None, :]
        score = torch.tanh(asked + F.linear(m, p[f"{name}memory.w"].T, p[f"{name}memory.b"])) @ p[f"{name}score.w"]
        weights = score.squeeze(-1).masked_fill(~k, -torch.inf).softmax(-1)
        return (weights[:, None, :] @ m).squeeze(1)

    case("additive attention", "additive_attention(q, m, k, units=3).0",
         [("q", "f32", [2, 4], 17, 8, 5), memory, mask],
         [("additive_attention_1.query.w", [4, 3], 11, 5, 4), ("additive_attention_1.memory.w", [6, 3], 7, 3, 4),
          ("additive_attention_1.memory.b", [3], 3, 1, 2), ("additive_attention_1.score.w", [3, 1], 3, 1, 1)],
         bahdanau)

    def rotary(x, p, interleaved):
        length, width = x.shape[-2:]
        angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
        turn = torch.polar(torch.ones_like(angle), angle)
        halves = x.unflatten(-1, (-1, 2)) if interleaved else x.unflatten(-1, (2, -1)).transpose(-1, -2)
        turned = torch.view_as_real(torch.view_as_complex(halves.contiguous()) * turn)
        return (turned if interleaved else turned.transpose(-1, -2)).flatten(-2)

    for word in [False, True]:
        case(f"rotary_embedding, interleaved {word}", f"rotary_embedding(x, interleaved={str(word).lower()})",
             [("x", "f32", [2, 3, 4], 17, 8, 5)], [], lambda x, p: rotary(x, p, word))

    def sinusoidal(x, p):
        place = torch.arange(3)[:, None]
        rate = torch.exp(torch.arange(0, 6, 2) * (-math.log(10000.0) / 6))
        table = torch.zeros(3, 6)
        table[:, 0::2] = torch.sin(place * rate)
        table[:, 1::2] = torch.cos(place * rate)
        return x + table

    case("sinusoidal_positions", "x + sinusoidal_positions(3, 6)", [("x", "f32", [3, 6], 17, 8, 5)], [], sinusoidal)
    case("learnt_positions", "learnt_positions(x, 5)", [x], [("learnt_positions_1.w", [5, 4], 11, 5, 4)],
         lambda x, p: x + p["learnt_positions_1.w"][:3])


def recurrent():
    """Our weights are theirs transposed; where we have one bias, theirs of the state is 0."""
    x = ("x", "f32", [2, 4, 3], 17, 8, 5)

    def values(prefix, inner, gates, hidden=2):
        named = [("w", [inner, gates * hidden], 11, 5, 4), ("u", [hidden, gates * hidden], 7, 3, 4),
                 ("b", [gates * hidden], 5, 2, 3)]
        named += [("d", [gates * hidden], 3, 1, 4)] if gates == 3 else []
        return [(f"{prefix}.{name}", *rest) for name, *rest in named]

    def fill(module, parameters, prefix, at, suffix=""):
        zero = torch.zeros_like(parameters[f"{prefix}.b"])
        getters = {"weight_ih": parameters[f"{prefix}.w"].T, "weight_hh": parameters[f"{prefix}.u"].T,
                   "bias_ih": parameters[f"{prefix}.b"], "bias_hh": parameters.get(f"{prefix}.d", zero)}
        with torch.no_grad():
            for name, value in getters.items():
                getattr(module, f"{name}_l{at}{suffix}").copy_(value)

    kinds = {"rnn": (torch.nn.RNN, 1), "lstm": (torch.nn.LSTM, 4), "gru": (torch.nn.GRU, 3)}
    for kind, (make, gates) in kinds.items():
        path = f"{kind}_1.block[0].{kind}_layer_1"

        def one(x, p, make=make, path=path):
            module = make(3, 2, batch_first=True)
            fill(module, p, path, 0)
            return module(x)[0]

        case(kind, f"{kind}(x, 2)", [x], values(path, 3, gates), one)
        paths = [f"{kind}_1.block[{at}].{kind}_layer_{way}" for at in range(2) for way in (1, 2)]

        def two(x, p, make=make, paths=paths):
            module = make(3, 2, num_layers=2, bidirectional=True, batch_first=True)
            for at, path in enumerate(paths):
                fill(module, p, path, at // 2, "_reverse" if at % 2 else "")
            return module(x)[0]

        both = [value for at, path in enumerate(paths) for value in values(path, 3 if at < 2 else 4, gates)]
        case(f"{kind}, two layers both ways", f"{kind}(x, 2, layers=2, bidirectional=true)", [x], both, two)

        def packed(x, mask, p, make=make, paths=paths):
            module = make(3, 2, num_layers=2, bidirectional=True, batch_first=True)
            for at, path in enumerate(paths):
                fill(module, p, path, at // 2, "_reverse" if at % 2 else "")
            there = torch.nn.utils.rnn.pack_padded_sequence(x, mask.sum(1), batch_first=True)
            return torch.nn.utils.rnn.pad_packed_sequence(module(there)[0], batch_first=True, total_length=4)[0]

        # At padding our results are states that are held, theirs are 0.
        case(f"{kind}, packed both ways", f"where(mask[:, :, new], {kind}(x, 2, layers=2, bidirectional=true, mask=mask), 0)",
             [x, ("mask", "bool", [2, 4], 8, 7, 1)], both, packed)

    row = ("x", "f32", [2, 3], 17, 8, 5)
    state = ("h", "f32", [2, 2], 7, 3, 4)
    cell = ("c", "f32", [2, 2], 5, 2, 3)

    def step(make, prefix, pick):
        def run(x, *rest):
            *states, p = rest
            module = make(3, 2)
            zero = torch.zeros_like(p[f"{prefix}.b"])
            with torch.no_grad():
                module.weight_ih.copy_(p[f"{prefix}.w"].T)
                module.weight_hh.copy_(p[f"{prefix}.u"].T)
                module.bias_ih.copy_(p[f"{prefix}.b"])
                module.bias_hh.copy_(p.get(f"{prefix}.d", zero))
            return pick(module(x, states[0] if len(states) == 1 else tuple(states)))
        return run

    case("rnn_cell", "rnn_cell(x, h)", [row, state], values("rnn_cell_1", 3, 1),
         step(torch.nn.RNNCell, "rnn_cell_1", lambda y: y))
    case("gru_cell", "gru_cell(x, h)", [row, state], values("gru_cell_1", 3, 3),
         step(torch.nn.GRUCell, "gru_cell_1", lambda y: y))
    case("lstm_cell", "lstm_cell(x, h, c).0", [row, state, cell], values("lstm_cell_1", 3, 4),
         step(torch.nn.LSTMCell, "lstm_cell_1", lambda y: y[0]))
    case("lstm_cell, the cell", "lstm_cell(x, h, c).1", [row, state, cell], values("lstm_cell_1", 3, 4),
         step(torch.nn.LSTMCell, "lstm_cell_1", lambda y: y[1]))


def arrays():
    x = ("x", "f32", [2, 3, 4], 17, 8, 5)
    for axis in [0, 1, -1]:
        case(f"cumsum along {axis}", f"cumsum(x, axis={axis})", [x], [], lambda x, p: x.cumsum(axis))
        case(f"cumsum along {axis} from the end, exclusive", f"cumsum(x, axis={axis}, exclusive=true, reverse=true)", [x], [],
             lambda x, p: x.flip(axis).cumsum(axis).flip(axis) - x)
        case(f"logsumexp over {axis}", f"logsumexp(x, axis={axis})", [x], [], lambda x, p: x.logsumexp(axis))
        places = {0: [5, 3, 4], 1: [2, 5, 4], -1: [2, 3, 5]}[axis]
        index = ("index", "f32", places, x[2][axis], 0, 1)
        case(f"take_along {axis}", f"take_along(x, i32(index), axis={axis})", [x, index], [],
             lambda x, index, p: torch.take_along_dim(x, index.long(), axis))
    case("cumsum of a vector", "cumsum(x)", [("x", "f32", [5], 17, 8, 5)], [], lambda x, p: x.cumsum(0))
    case("logsumexp over two axes", "logsumexp(x, axis=[0, 2], keep=true)", [x], [],
         lambda x, p: x.logsumexp((0, 2), keepdim=True))


def losses():
    x = ("x", "f32", [3, 4], 11, 5, 3)
    y = ("y", "f32", [3, 4], 7, 3, 4)
    share = ("y", "f32", [3, 4], 5, 0, 10)
    truth = ("y", "f32", [3, 4], 2, 0, 1)
    case("kl_divergence", "kl_divergence(log_softmax(x), y)", [x, share], [],
         lambda x, y, p: F.kl_div(x.log_softmax(-1), y, reduction="batchmean"))
    case("gaussian_kl", "gaussian_kl(x, y)", [x, y], [],
         lambda x, y, p: torch.distributions.kl_divergence(
             torch.distributions.Normal(x, (0.5 * y).exp()), torch.distributions.Normal(torch.zeros(()), torch.ones(()))
         ).sum(-1).mean())
    case("huber", "huber(x, y, delta=0.5)", [x, y], [], lambda x, y, p: F.huber_loss(x, y, delta=0.5))
    case("hinge", "hinge(x, 2 * y - 1)", [x, truth], [], lambda x, y, p: F.relu(1 - (2 * y - 1) * x).mean())
    case("dice", "dice(sigmoid(x), y, smooth=0.5)", [x, truth], [],
         lambda x, y, p: (1 - (2 * (x.sigmoid() * y).sum(-1) + 0.5) / (x.sigmoid().sum(-1) + y.sum(-1) + 0.5)).mean())
    case("focal", "focal(x, y)", [x, truth], [], lambda x, y, p: sigmoid_focal_loss(x, y, reduction="mean"))

    def nce(x, y, symmetric):
        scores = F.normalize(x) @ F.normalize(y).T / 0.2
        loss = F.cross_entropy(scores, torch.arange(3))
        return 0.5 * (loss + F.cross_entropy(scores.T, torch.arange(3))) if symmetric else loss

    case("info_nce", "info_nce(x, y, temperature=0.2)", [x, y], [], lambda x, y, p: nce(x, y, False))
    case("info_nce, both ways", "info_nce(x, y, temperature=0.2, symmetric=true)", [x, y], [], lambda x, y, p: nce(x, y, True))

    sounds = ("x", "f32", [2, 6, 5], 11, 4, 3)
    full = lambda x, labels, steps, lengths: F.ctc_loss(
        x.log_softmax(-1).transpose(0, 1), labels.long(), torch.tensor(steps), torch.tensor(lengths))
    case("ctc", "ctc(x, i32(y))", [sounds, ("y", "f32", [2, 3], 3, -1, 1)], [],
         lambda x, y, p: full(x, y, [6, 6], [3, 3]))
    case("ctc of repeated labels", "ctc(x, i32(y))", [sounds, ("y", "f32", [2, 3], 1, -2, 1)], [],
         lambda x, y, p: full(x, y, [6, 6], [3, 3]))
    case("ctc of short labels and steps",
         "ctc(x, i32(y) * i32(iota(3) < 3 - iota(2)[:, new]), iota(6) < 5 - iota(2)[:, new])",
         [sounds, ("y", "f32", [2, 3], 4, -1, 1)], [],
         lambda x, y, p: full(x, y * torch.tensor([[1, 1, 1], [1, 1, 0]]), [5, 4], [3, 2]))


def filled(module, pairs):
    """A module of torchvision in evaluation, with ramps for weights, and the same as our values. `pairs` are our prefix
    (of a convolution, a `batch_norm` or a `dense`) and theirs."""
    values = []
    with torch.no_grad():
        for at, (ours, theirs) in enumerate(pairs):
            layer = module.get_submodule(theirs)
            if isinstance(layer, torch.nn.BatchNorm2d):
                spread = [("scale", layer.weight, 3, -1, 2), ("shift", layer.bias, 5, 2, 4),
                          ("mean", layer.running_mean, 4, 2, 3), ("variance", layer.running_var, 3, -1, 2)]
            else:
                spread = [("w", layer.weight, 13 + at % 3, 6, 9 - at % 4)]
                if layer.bias is not None:
                    spread.append(("b", layer.bias, 3, 1, 2))
            for name, parameter, cycle, shift, scale in spread:
                dims = list(parameter.shape)
                if ours.split(".")[-1].startswith("dense"):
                    dims = dims[:1] if name == "b" else dims[1::-1]
                    ours_now = ramp(dims, cycle, shift, scale)
                    parameter.copy_((ours_now if name == "b" else ours_now.T).reshape(parameter.shape))
                else:
                    parameter.copy_(ramp(dims, cycle, shift, scale))
                values.append((f"{ours}.{name}", dims, cycle, shift, scale))
    return module.eval(), values


def blocks():
    from torchvision.models import mobilenetv2, resnet
    from torchvision.models.googlenet import Inception
    from torchvision.ops import SqueezeExcitation

    x = ("x", "f32", [1, 3, 4, 5], 11, 5, 3)

    def block(name, expression, module, pairs, x=x):
        module, values = filled(module, pairs)
        case(name, expression, [x], values, lambda x, p: module(x))

    r = "residual_block_1."
    both = [(f"{r}conv2d_1", "conv1"), (f"{r}batch_norm_1", "bn1"), (f"{r}conv2d_2", "conv2"), (f"{r}batch_norm_2", "bn2")]
    block("residual_block", "residual_block(x, 3)", resnet.BasicBlock(3, 3), both)
    down = lambda units: torch.nn.Sequential(resnet.conv1x1(3, units, 2), torch.nn.BatchNorm2d(units))
    wide = [(f"{r}shortcut_1.conv2d_1", "downsample.0"), (f"{r}shortcut_1.batch_norm_1", "downsample.1")]
    block("residual_block, wider", "residual_block(x, 4, stride=2)", resnet.BasicBlock(3, 4, 2, down(4)), both + wide)
    b = "bottleneck_block_1."
    three = [(f"{b}{ours}_{i}", f"{theirs}{i}") for i in [1, 2, 3] for ours, theirs in [("conv2d", "conv"), ("batch_norm", "bn")]]
    wide = [(ours.replace(r, b), theirs) for ours, theirs in wide]
    block("bottleneck_block", "bottleneck_block(x, 2, stride=2)", resnet.Bottleneck(3, 2, 2, down(8)), three + wide)
    m = "inverted_residual_1."
    whole = [(f"{m}conv2d_1", "conv.0.0"), (f"{m}batch_norm_1", "conv.0.1"), (f"{m}depthwise_conv2d_1", "conv.1.0"),
             (f"{m}batch_norm_2", "conv.1.1"), (f"{m}conv2d_2", "conv.2"), (f"{m}batch_norm_3", "conv.3")]
    block("inverted_residual", "inverted_residual(x, 3, expansion=2)", mobilenetv2.InvertedResidual(3, 3, 1, 2), whole)
    short = [(f"{m}depthwise_conv2d_1", "conv.0.0"), (f"{m}batch_norm_1", "conv.0.1"),
             (f"{m}conv2d_1", "conv.1"), (f"{m}batch_norm_2", "conv.2")]
    block("inverted_residual, not expanded", "inverted_residual(x, 2, stride=2, expansion=1)",
          mobilenetv2.InvertedResidual(3, 2, 2, 1), short)
    ways = ["branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"]
    i = "inception_block_1.conv_norm_relu_"
    ways = [(f"{i}{at + 1}.{ours}_1", f"{way}.{theirs}") for at, way in enumerate(ways)
            for ours, theirs in [("conv2d", "conv"), ("batch_norm", "bn")]]
    block("inception_block", "inception_block(x, 1, [2, 3], [1, 2], 2, kernel=3, epsilon=1e-3)",
          Inception(3, 1, 2, 3, 1, 2, 2), ways)
    s = "squeeze_excite_1."
    block("squeeze_excite", "squeeze_excite(x, ratio=2)", SqueezeExcitation(4, 2),
          [(f"{s}dense_1", "fc1"), (f"{s}dense_2", "fc2")], ("x", "f32", [2, 4, 2, 3], 11, 5, 3))


convolutions()
pools()
norms()
images()
attentions()
recurrent()
arrays()
losses()
blocks()
