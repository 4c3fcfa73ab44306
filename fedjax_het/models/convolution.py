"""Convolutions at a machine's speed, one client at a time or many at once, in place of `lax`'s own.

    nn.Conv(32, (5, 5), conv_general_dilated=convolution.conv_general_dilated)

`models.cnn`, and `from_linen` and `from_nnx` for the modules they are given, use it without being told.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from fedjax_het.models.trilinear import Window, forward
from fedjax_het.typing import Array

__all__ = ["conv_general_dilated", "max_pool", "warn_of_slow"]

CHANNELS_LAST = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}
"""Layouts by number of spatial axes: those of `flax.linen.Conv`."""


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    layer: str = "a convolution",
) -> Array:
    """`lax.conv_general_dilated`, with its arguments, values and derivatives; see `trilinear`.

    Covered are one and two spatial axes with channels last, any strides, padding and kernel dilation. All else
    (groups, a dilated input, other layouts or precisions) goes to `lax`, with a warning: inside the loops of
    local training on a CPU its gradient is some 50 times slower, and one kernel a client slower still.

    Args:
        lhs: rows [n, H, (W,) i].
        rhs: kernel [h, (w,) i, o].
        window_strides: one for each spatial axis.
        padding: "SAME", "VALID" or (low, high) for each spatial axis.
        lhs_dilation: as in `lax`.
        rhs_dilation: distance of the kernel's entries for each spatial axis; ones if None.
        dimension_numbers: as in `lax`; "NHWC", "HWIO", "NHWC" are channels last.
        feature_group_count: as in `lax`.
        batch_group_count: as in `lax`.
        precision: as in `lax`.
        preferred_element_type: as in `lax`.
        out_sharding: as in `lax`.
        layer: its name in the warning.

    Returns:
        [n, H', (W',) o].
    """
    rank = lhs.ndim - 2
    ones = (1,) * rank
    dilation = tuple(rhs_dilation or ones)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    reasons = {
        f"{rank} spatial axes": rank not in CHANNELS_LAST,
        "another layout than channels last": rank in CHANNELS_LAST
        and numbers != lax.conv_dimension_numbers(lhs.shape, rhs.shape, CHANNELS_LAST[rank]),
        "groups": feature_group_count != 1 or batch_group_count != 1,
        "a dilated input": tuple(lhs_dilation or ones) != ones,
        "a precision": precision is not None,
        "a sharding": out_sharding is not None,
        "a type of its own": preferred_element_type not in (None, lhs.dtype) or lhs.dtype != rhs.dtype,
        "rows or windows without entries": 0 in (*lhs.shape, *rhs.shape),
    }
    slow = [words for words, holds in reasons.items() if holds]
    if slow:
        warnings.warn(
            f"{layer} of {', '.join(slow)} takes the slow path, got rows {list(lhs.shape)} and a kernel "
            f"{list(rhs.shape)}: on a CPU its gradient is some 50 times slower in local training",
            stacklevel=2,
        )
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
            **({} if out_sharding is None else {"out_sharding": out_sharding}),
        )
    extent, size = lhs.shape[1:-1], rhs.shape[:rank]
    if isinstance(padding, str):
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, size)]
        padding = lax.padtype_to_pads(extent, reach, window_strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    strides = tuple(int(s) for s in window_strides)
    return forward(lhs, rhs, Window(strides, pads, tuple(int(d) for d in dilation), extent, size))


def warn_of_slow(layers: Collection[str]) -> None:
    """A warning that names layers for which there is no fast path, if there are any."""
    if layers:
        warnings.warn(
            f"{', '.join(sorted(layers))} takes the slow path: on a CPU its gradient is some 50 times slower "
            "in local training",
            stacklevel=3,
        )


def max_pool(x: Array, window: int) -> Array:
    """The largest entry of each window x window square, edges cropped: [n, H, W, c] to [n, H // window, .., c].

    By reshaping, since the gradient of `lax.reduce_window` is slow on a CPU. Ties share the gradient evenly.
    """
    rows, *extent, channels = x.shape
    kept = [n // window for n in extent]
    for axis, n in enumerate(kept):
        x = lax.slice_in_dim(x, 0, n * window, axis=axis + 1)
    split = [part for n in kept for part in (n, window)]
    axes = tuple(range(2, 2 + 2 * len(kept), 2))
    return jnp.max(x.reshape(rows, *split, channels), axis=axes)
