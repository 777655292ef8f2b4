"""What the PyTorch twins of the zoo share: initial values, schedules, words and the loop of epochs as nnc has them.

Initial weights are drawn as nnc draws them but by PyTorch's generator, and so are batches and augmentation: what agrees is
where training ends, not the loss of a step. The last line of a run is its result as JSON; seconds are
of the processor, with one thread unless OMP_NUM_THREADS says more."""

import copy
import json
import math
import os
import re
import time
from collections import Counter

import torch
import torch.nn as nn

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
MARK = re.compile(r"[!-/:-@\[-`{-~\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u2010-\u205e]")


def like_nnc(net):
    """The initial values of nnc's library. Plain and LSTM layers have one bias there, so PyTorch's second stays 0."""
    for module in net.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, (nn.RNN, nn.LSTM, nn.GRU, nn.GRUCell)):
            for name, value in module.named_parameters():
                if name.startswith("bias"):
                    nn.init.zeros_(value)
                    value.requires_grad_(name.startswith("bias_ih") or isinstance(module, (nn.GRU, nn.GRUCell)))
            continue
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return net


class Attention(nn.Module):
    """`multi_head_attention` of nnc's library; `mask` is true for keys that are no padding."""

    def __init__(self, width, heads, rate=0.0, causal=False):
        super().__init__()
        self.heads, self.causal, self.drop = heads, causal, nn.Dropout(rate)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, memory, mask=None):
        parts = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query, key, value = parts(self.query(x)), parts(self.key(memory)), parts(self.value(memory))
        mask = None if mask is None else mask[:, None, None, :]
        seen = nn.functional.scaled_dot_product_attention(query, key, value, mask, is_causal=self.causal)
        return self.drop(self.output(seen.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """`transformer_encoder_block`, or with `looks` `transformer_decoder_block`, normalised before each part."""

    def __init__(self, width, heads, hidden, rate=0.0, causal=False, looks=False):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 + looks))
        self.attend = Attention(width, heads, rate, causal)
        self.look = Attention(width, heads, rate) if looks else None
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(rate)]
        self.think = nn.Sequential(*layers)

    def forward(self, x, mask=None, memory=None):
        y = self.norms[0](x)
        x = x + self.attend(y, y, mask if memory is None else None)
        if self.look:
            x = x + self.look(self.norms[1](x), memory, mask)
        return x + self.think(self.norms[-1](x))


def sinusoidal(length, width):
    angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(length, width)


def constant(lr):
    return lambda step, steps: lr


def cosine(lr, warmup=0, final=0.0):
    def rate(step, steps):
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = min((step - warmup) / max(steps - warmup, 1), 1)
        return final + 0.5 * (lr - final) * (1 + math.cos(math.pi * progress))

    return rate


def one_cycle(lr, rise=0.3):
    def rate(step, steps):
        peak = rise * steps - 1
        if step < peak:
            return lr / 25 + (lr - lr / 25) * 0.5 * (1 - math.cos(math.pi * step / peak))
        low = lr / 250000
        return low + (lr - low) * 0.5 * (1 + math.cos(math.pi * (step - peak) / ((1 - rise) * steps)))

    return rate


def fit(name, seed, net, loss, count, batch, epochs, optimiser, rate, validate=None, test=None, clip=0, stop_at=0):
    """Trains by `loss(rows)`; `validate()` and `test()` give a dict of measures, `loss` first. As in nnc, the weights with the
    smallest loss of validation are tested; without validation the last ones."""
    start, step, best, kept = time.process_time(), 0, math.inf, None
    steps = epochs * math.ceil(count / batch)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for rows in torch.randperm(count).split(batch):
            total += stepped(net, loss, rows, optimiser, rate(step, steps), clip) * len(rows)
            step += 1
            if step == stop_at:
                found = measured(net, validate)
                print(f"step {step}: {told(found)}", flush=True)
        line = f"{name} seed {seed} epoch {epoch + 1}/{epochs}  loss {total / count:.4f}"
        if validate:
            found = measured(net, validate)
            line += f"  | validation {told(found)}"
            if found["loss"] < best:
                best, kept = found["loss"], (copy.deepcopy(net.state_dict()), found)
        print(f"{line}  {time.process_time() - start:.0f} s", flush=True)
    result = {"network": name, "engine": "PyTorch", "seed": seed, "epochs": epochs, "train_loss": total / count}
    if kept:
        net.load_state_dict(kept[0])
        result |= {f"validation_{key}": value for key, value in kept[1].items()}
    if test:
        result |= {f"test_{key}": value for key, value in measured(net, test).items()}
    print(json.dumps(result | {"seconds": round(time.process_time() - start)}), flush=True)


def stepped(net, loss, rows, optimiser, rate, clip=0):
    """The loss before a step."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    value = loss(rows)
    value.backward()
    if clip:
        nn.utils.clip_grad_norm_(net.parameters(), clip)
    optimiser.step()
    return value.item()


def held_out(count, fraction):
    """Rows that are held out, and the others."""
    return torch.randperm(count).split([round(fraction * count), count - round(fraction * count)])


def measured(net, measure):
    net.eval()
    with torch.no_grad():
        found = measure()
    net.train()
    return found


def told(found):
    return "  ".join(f"{key} {value:.4f}" for key, value in found.items())


def classified(net, inputs, labels):
    """Mean cross entropy and accuracy in percent."""
    scores = torch.cat([net(part) for part in inputs.split(200)])
    loss = nn.functional.cross_entropy(scores, labels).item()
    return {"loss": loss, "accuracy": 100 * (scores.argmax(-1) == labels).float().mean().item()}


def run_of(text):
    return re.match(re.escape(text[0]) + "+", text).group()


def words(text):
    """As `crates/nnc-data/src/vocabulary.rs` splits."""
    found = []
    for chunk in text.split():
        while chunk and MARK.match(chunk[0]) and not (chunk[0] in "'\u2019" and chunk[1:2].isalnum()):
            found.append(run_of(chunk))
            chunk = chunk[len(found[-1]) :]
        end = len(chunk)
        while end and MARK.match(chunk[end - 1]):
            end -= 1
        if end:
            found.append(chunk[:end])
        tail = chunk[end:]
        while tail:
            found.append(run_of(tail))
            tail = tail[len(found[-1]) :]
    return [word.lower() for word in found]


def vocabulary(texts, size):
    """The numbers of the most frequent words, behind four marks; equally frequent ones in the order of their UTF-8."""
    counts = Counter(word for text in texts for word in text)
    table = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: size - 4]
    return {word: at + 4 for at, (word, _) in enumerate(table)}


def numbered(texts, table, length):
    """Rows of `length` numbers; 0 behind the last word, 1 for a word outside of the table."""
    row = lambda text: ([table.get(word, 1) for word in text[:length]] + [0] * length)[:length]
    return torch.tensor([row(text) for text in texts])
