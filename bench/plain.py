"""The networks of the workloads in NumPy: log-probabilities, and gradients of the mean cross-entropy by hand.

A network is what its weights say: "conv_0", "conv_1", ... (zeros around, ReLU, 2 x 2 max pooling) on squares of
one channel, then "dense_0" with ReLU if it is there, then "head".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["copied", "gradients", "log_probabilities"]

Params = dict[str, dict[str, np.ndarray]]


def copied(params: Params) -> Params:
    """The same weights in arrays of their own, float64."""
    return {
        layer: {leaf: np.array(value, np.float64) for leaf, value in leaves.items()}
        for layer, leaves in params.items()
    }


def _patches(x: np.ndarray, width: int) -> np.ndarray:
    """[n, H, W, i] to [n, H, W, width * width * i], zeros around."""
    reach = width // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(*x.shape[:3], -1)


def _onto_image(d: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The gradient towards the input: under the kernel turned round, channels exchanged."""
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _patches(d, len(kernel)) @ turned.reshape(-1, turned.shape[-1])


def _squares(x: np.ndarray) -> np.ndarray:
    """[n, H, W, c] to [n, H / 2, W / 2, c, 4]: the entries of every pooling square."""
    n, height, width, c = x.shape
    split = x.reshape(n, height // 2, 2, width // 2, 2, c)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(n, height // 2, width // 2, c, 4)


def _unpooled(d: np.ndarray, x: np.ndarray) -> np.ndarray:
    """d [n, H / 2, W / 2, c] put where each square of x [n, H, W, c] is largest."""
    squares = _squares(x)
    chosen = np.arange(4) == squares.argmax(axis=-1)[..., None]
    n, height, width, c = x.shape
    spread = (chosen * d[..., None]).reshape(n, height // 2, width // 2, c, 2, 2)
    return spread.transpose(0, 1, 4, 2, 5, 3).reshape(x.shape)


def _passed(params: Params, x: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """(log-probabilities, what each layer saw)."""
    seen: list[Any] = []
    convolutions = [name for name in params if name.startswith("conv")]
    if convolutions:
        side = math.isqrt(x.shape[1])
        x = x.reshape(len(x), side, side, 1)
    for name in convolutions:
        kernel, patches = params[name]["kernel"], _patches(x, len(params[name]["kernel"]))
        out = np.maximum(patches @ kernel.reshape(-1, kernel.shape[-1]) + params[name]["bias"], 0)
        seen.append((patches, out))
        x = _squares(out).max(axis=-1)
    shape, x = x.shape, x.reshape(len(x), -1)
    seen.append(shape)
    for name in ("dense_0",) if "dense_0" in params else ():
        out = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
        seen.append((x, out))
        x = out
    seen.append(x)
    out = x @ params["head"]["kernel"] + params["head"]["bias"]
    out = out - out.max(axis=1, keepdims=True)
    return out - np.log(np.exp(out).sum(axis=1, keepdims=True)), seen


def log_probabilities(params: Params, x: np.ndarray) -> np.ndarray:
    """Of each class [n, classes], for rows x [n, features]."""
    return _passed(params, x)[0]


def gradients(params: Params, x: np.ndarray, y: np.ndarray) -> Params:
    """The gradient of the mean cross-entropy of a batch x [n, features], y [n]."""
    log_p, seen = _passed(params, x)
    d = np.exp(log_p)
    d[np.arange(len(x)), y] -= 1
    d /= len(x)
    inputs = seen.pop()
    made = {"head": {"kernel": inputs.T @ d, "bias": d.sum(axis=0)}}
    d = d @ params["head"]["kernel"].T
    if "dense_0" in params:
        inputs, out = seen.pop()
        d = d * (out > 0)
        made["dense_0"] = {"kernel": inputs.T @ d, "bias": d.sum(axis=0)}
        d = d @ params["dense_0"]["kernel"].T if len(seen) > 1 else d
    shape = seen.pop()
    for name in reversed([name for name in params if name.startswith("conv")]):
        patches, out = seen.pop()
        d = _unpooled(d.reshape(shape), out) * (out > 0)
        kernel = params[name]["kernel"]
        flat = patches.reshape(-1, patches.shape[-1]).T @ d.reshape(-1, d.shape[-1])
        made[name] = {"kernel": flat.reshape(kernel.shape), "bias": d.sum(axis=(0, 1, 2))}
        if seen:
            d = _onto_image(d, kernel)
            shape = d.shape
    return made
