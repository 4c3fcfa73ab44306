"""A small residual network with group normalisation, whose statistics are a row's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import number, positive_int, positive_ints, require
from fedjax_het.models.cnn import image_shape, same_convolution
from fedjax_het.models.linear import RIDGE, affine
from fedjax_het.models.losses import defaults, output_shape
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, Bound, Key, Params

__all__ = ["resnet"]

EPSILON = 1e-5
"""Added to variances."""


def _layers(channels: tuple[int, ...], blocks: int) -> list[tuple[str, int, int, int]]:
    """(name, channels in, channels out, stride) of each residual block."""
    made, inputs = [], channels[0]
    for stage, size in enumerate(channels):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            made.append((f"block_{stage}_{block}", inputs, size, stride))
            inputs = size
    return made


def _init(image: tuple[int, int, int], channels: tuple[int, ...], blocks: int, outputs: int, key: Key) -> Model:
    dtype = jnp.result_type(float)
    he, lecun = jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()

    def convolution(name: str, width: int, i: int, o: int) -> Params:
        return {"kernel": he(keys.stream(key, name), (width, width, i, o), dtype)}

    def norm(size: int, scale: float = 1.0) -> Params:
        return {"scale": jnp.full((size,), scale, dtype), "bias": jnp.zeros((size,), dtype)}

    params: Params = {
        "stem": {"conv": convolution("stem", 3, image[2], channels[0]), "norm": norm(channels[0])}
    }
    for name, i, o, stride in _layers(channels, blocks):
        params[name] = {
            "conv_0": convolution(f"{name}/0", 3, i, o),
            "norm_0": norm(o),
            "conv_1": convolution(f"{name}/1", 3, o, o),
            "norm_1": norm(o, 0.0),  # each block begins as the identity
        }
        if stride > 1 or i != o:
            params[name]["shortcut"] = convolution(f"{name}/shortcut", 1, i, o)
    kernel = lecun(keys.stream(key, "head"), (channels[-1], outputs), dtype)
    params["head"] = {"kernel": kernel, "bias": jnp.zeros((outputs,), dtype)}
    return Model(params, ())


def _group_norm(params: Params, x: Array, groups: int) -> Array:
    rows, height, width, channels = x.shape
    split = x.reshape(rows, height * width, groups, channels // groups)
    mean = jnp.mean(split, axis=(1, 3), keepdims=True)
    variance = jnp.mean((split - mean) ** 2, axis=(1, 3), keepdims=True)
    out = ((split - mean) * jax.lax.rsqrt(variance + EPSILON)).reshape(x.shape)
    return out * params["scale"].reshape(1, 1, 1, -1) + params["bias"].reshape(1, 1, 1, -1)


def _apply(
    image: tuple[int, int, int],
    channels: tuple[int, ...],
    blocks: int,
    groups: int,
    out_shape: tuple[int, ...],
    params: Params,
    buffers: Any,
    x: Array,
    key: Key | None = None,
    train: bool = False,
) -> tuple[Array, Any]:
    del key, train
    rows = x.shape[0]
    out = same_convolution(params["stem"]["conv"], x.reshape(rows, *image))
    out = jax.nn.relu(_group_norm(params["stem"]["norm"], out, groups))
    for name, _, _, stride in _layers(channels, blocks):
        block = params[name]
        inner = same_convolution(block["conv_0"], out, stride)
        inner = jax.nn.relu(_group_norm(block["norm_0"], inner, groups))
        inner = _group_norm(block["norm_1"], same_convolution(block["conv_1"], inner), groups)
        if "shortcut" in block:
            out = same_convolution(block["shortcut"], out, stride)
        out = jax.nn.relu(out + inner)
    return affine(params["head"], jnp.mean(out, axis=(1, 2))).reshape(rows, *out_shape), buffers


def resnet(
    pool: Pool,
    *,
    channels: Sequence[int] = (16, 32, 64),
    blocks: int = 1,
    groups: int = 8,
    l2: Any = None,
) -> Problem:
    """Residual blocks of two 3 x 3 convolutions with group normalisation, a global mean, and a linear head.

    Group normalisation looks at one row alone, so that nothing has to be averaged over clients beside the
    parameters, and label skew does not disturb it as it does batch statistics. The first block of each stage
    but the first halves width and height, with a 1 x 1 convolution on its shortcut.

    Args:
        pool: images [H, W] or [H, W, channels] of a classification or regression task.
        channels: of each stage.
        blocks: of each stage; 3 with the default channels are ResNet-20.
        groups: of channels that are normalised together; divides each of `channels`.
        l2: coefficient of (l2/2)|params|^2, >= 0; None for no such term.

    Returns:
        A Problem with the head ("head",) and the normalisation layers, by name.

    Raises:
        TypeError: `pool` is not a Pool, a number is not whole, or l2 is not a number.
        ValueError: rows that are no images, or of another task; a number below 1; groups that do not divide; a
            negative l2.

    Reference:
        He, Zhang, Ren, Sun, CVPR 2016, section 4.2. Wu, He, ECCV 2018 (groups). Hsieh, Phanishayee, Mutlu,
        Gibbons, ICML 2020 (in place of BatchNorm with non-IID clients).
    Departures:
        The last scale of each block starts at 0 (Goyal et al., 2017); shortcuts have no normalisation.
    """
    spec = expect_pool("pool", pool).spec
    shape = image_shape(spec, "a ResNet")
    sizes = tuple(positive_ints("channels", channels, remedy="pass a tuple such as (16, 32, 64)"))
    require(len(sizes) > 0, "channels must have an entry, got none: pass a tuple such as (16, 32, 64)")
    blocks = positive_int("blocks", blocks, remedy="residual blocks of each stage, such as 1")
    groups = positive_int("groups", groups, remedy="it divides every number of channels")
    require(
        all(size % groups == 0 for size in sizes),
        f"groups must divide each of channels {list(sizes)}, got {groups}: {math.gcd(*sizes)} is the most",
    )
    outputs = output_shape(spec)
    losses, metrics = defaults(spec.task)
    names = ["stem/norm"]
    names += [f"{name}/norm_{i}" for name, *_ in _layers(sizes, blocks) for i in (0, 1)]
    return Problem(
        init=Bound(_init, (shape, sizes, blocks, math.prod(outputs))),
        apply=Bound(_apply, (shape, sizes, blocks, groups, outputs)),
        losses=losses,
        metrics=metrics,
        facts=Facts("resnet", log_likelihood=True, head=("head",), norm=tuple(names)),
        l2=None if l2 is None else number("l2", l2, least=0, remedy=RIDGE),
    )
