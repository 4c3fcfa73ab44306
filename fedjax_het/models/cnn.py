"""Convolutional network for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.check import known, number, positive_int, positive_ints, require
from fedjax_het.models.convolution import conv_general_dilated, max_pool
from fedjax_het.models.linear import RIDGE, affine
from fedjax_het.models.losses import defaults, output_shape
from fedjax_het.models.mlp import ACTIVATIONS
from fedjax_het.pool import Pool, PoolSpec, expect_pool
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, Bound, Key, Params

__all__ = ["cnn", "image_shape", "same_convolution"]


def image_shape(spec: PoolSpec, model: str) -> tuple[int, int, int]:
    """(H, W, channels) of a pool's rows; [H, W] is one channel.

    Raises:
        ValueError: rows that are no images, or a task other than classification and regression.
    """
    require(
        spec.task in ("classification", "regression"),
        f"pool must be of task 'classification' or 'regression' for {model}, got {spec.task!r}: see "
        "models.gru for tokens",
    )
    shape = tuple(spec.feature_shape)
    require(
        len(shape) in (2, 3),
        f"pool must hold images [H, W] or [H, W, channels] for {model}, got features {list(shape)}: reshape "
        "them, such as by fh.datasets.digits(flat=False)",
    )
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1


def same_convolution(params: Params, x: Array, stride: int = 1) -> Array:
    """x * kernel + bias, if there is one, zeros around: [B, H, W, i] to [B, ceil(H / stride), .., o]."""
    out = conv_general_dilated(
        x, params["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + params["bias"].reshape(1, 1, 1, -1) if "bias" in params else out


def _init(
    shape: tuple[int, int, int],
    channels: tuple[int, ...],
    kernel: int,
    window: int,
    hidden: tuple[int, ...],
    outputs: int,
    key: Key,
) -> Model:
    dtype = jnp.result_type(float)
    he, lecun = jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()
    height, width, inputs = shape
    params = {}
    for i, size in enumerate(channels):
        name = f"conv_{i}"
        params[name] = {
            "kernel": he(keys.stream(key, name), (kernel, kernel, inputs, size), dtype),
            "bias": jnp.zeros((size,), dtype),
        }
        height, width, inputs = height // window, width // window, size
    flat = height * width * inputs
    names = [*(f"dense_{i}" for i in range(len(hidden))), "head"]
    for name, size in zip(names, (*hidden, outputs)):
        made = (lecun if name == "head" else he)(keys.stream(key, name), (flat, size), dtype)
        params[name] = {"kernel": made, "bias": jnp.zeros((size,), dtype)}
        flat = size
    return Model(params, ())


def _apply(
    shape: tuple[int, int, int],
    depths: tuple[int, int],
    window: int,
    activation: str,
    out_shape: tuple[int, ...],
    params: Params,
    buffers: Any,
    x: Array,
    key: Key | None = None,
    train: bool = False,
) -> tuple[Array, Any]:
    del key, train
    rows = x.shape[0]
    out = x.reshape(rows, *shape)
    for i in range(depths[0]):
        out = max_pool(ACTIVATIONS[activation](same_convolution(params[f"conv_{i}"], out)), window)
    out = out.reshape(rows, -1)
    for i in range(depths[1]):
        out = ACTIVATIONS[activation](affine(params[f"dense_{i}"], out))
    return affine(params["head"], out).reshape(rows, *out_shape), buffers


def cnn(
    pool: Pool,
    *,
    channels: Sequence[int] = (32, 64),
    kernel: int = 5,
    window: int = 2,
    hidden: Sequence[int] = (512,),
    activation: str = "relu",
    l2: Any = None,
) -> Problem:
    """Convolutions with max pooling, dense layers, and a linear head; classification or regression.

    Params are {"conv_0": {"kernel" [k, k, i, o], "bias"}, ..., "dense_0": ..., "head": ...}; kernels from the
    truncated normal of variance 2/fan-in (1/fan-in for the head), biases zero. Zeros surround each image, so
    that only pooling shrinks it. The defaults on 28 x 28 images of ten classes have 1,663,370 parameters.

    Args:
        pool: images [H, W] or [H, W, channels] of a classification or regression task.
        channels: of each convolution.
        kernel: its width and height.
        window: width of the pooling squares, edges cropped; 1 for none.
        hidden: width of each dense layer; () leaves only the head.
        activation: one of `mlp.ACTIVATIONS`.
        l2: coefficient of (l2/2)|params|^2, >= 0; None for no such term.

    Returns:
        A Problem with the head ("head",).

    Raises:
        TypeError: `pool` is not a Pool, a number is not whole, or l2 is not a number.
        ValueError: rows that are no images, of another task, or too small for so much pooling; a number below
            1; an unknown activation; a negative l2.

    Reference:
        McMahan, Moore, Ramage, Hampson, Agüera y Arcas, AISTATS 2017, section 3 (the defaults, on MNIST).
    """
    spec = expect_pool("pool", pool).spec
    shape = image_shape(spec, "a CNN")
    sizes = tuple(positive_ints("channels", channels, remedy="pass a tuple such as (32, 64)"))
    kernel = positive_int("kernel", kernel, remedy="its width, such as 5")
    window = positive_int("window", window, remedy="the width of the pooling squares; 1 for none")
    widths = tuple(positive_ints("hidden", hidden, remedy="pass a tuple of widths such as (512,)"))
    known("activation", activation, ACTIVATIONS)
    least = window ** len(sizes)
    require(
        min(shape[:2]) >= least,
        f"window must leave some of {shape[0]} x {shape[1]} images after {len(sizes)} times, got {window}: "
        f"they would have to be {least} wide; use fewer channels or a window of 1",
    )
    outputs = output_shape(spec)
    losses, metrics = defaults(spec.task)
    return Problem(
        init=Bound(_init, (shape, sizes, kernel, window, widths, math.prod(outputs))),
        apply=Bound(_apply, (shape, (len(sizes), len(widths)), window, activation, outputs)),
        losses=losses,
        metrics=metrics,
        facts=Facts("cnn", log_likelihood=True, head=("head",)),
        l2=None if l2 is None else number("l2", l2, least=0, remedy=RIDGE),
    )
