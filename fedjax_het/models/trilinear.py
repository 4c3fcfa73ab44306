"""The three products of a convolution, each a transpose of the others: forward, and two gradients.

With X the input, K the kernel and G an output's gradient, <G, X * K> is linear in each. What is made of two of
them is a primitive: `forward(x, k)`, `onto_input(g, k)`, `onto_kernel(x, g)`. A transpose of one is another
one, so that derivatives of every order and kind stay among the three, and each is lowered as suits the machine:

- One kernel: `lax.conv_general_dilated`. On a CPU the gradients state the layout that the fast code takes. XLA
  finds it by itself outside of loops only; inside of them it falls to naive code, 7 to 50 times slower.
- Many kernels (`vmap` over clients): patches times a batched matrix product, in place of the grouped
  convolution that `vmap` makes of it otherwise, which is slow on every machine.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fedjax_het.typing import Array

__all__ = ["Window", "forward", "onto_input", "onto_kernel"]


class Window(NamedTuple):
    """How a kernel slides; static.

    Attributes:
        strides: of the output, one for each spatial axis.
        padding: (low, high) zeros of each spatial axis; negative ones crop.
        dilation: distance of the kernel's entries.
        extent: the input's spatial shape.
        size: the kernel's spatial shape.
    """

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    extent: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """The output's spatial shape."""
        return tuple(
            max(0, (n + low + high - (d * (k - 1) + 1)) // s + 1)
            for n, (low, high), d, k, s in zip(
                self.extent, self.padding, self.dilation, self.size, self.strides
            )
        )


def forward(x: Array, kernel: Array, window: Window) -> Array:
    """x * k: [n, *extent, i] and [*size, i, o] to [n, *out, o]."""
    return _forward.bind(x, kernel, window=window)


def onto_input(g: Array, kernel: Array, window: Window) -> Array:
    """The gradient of <g, x * k> in x: [n, *out, o] and [*size, i, o] to [n, *extent, i]."""
    return _onto_input.bind(g, kernel, window=window)


def onto_kernel(x: Array, g: Array, window: Window) -> Array:
    """The gradient of <g, x * k> in k: [n, *extent, i] and [n, *out, o] to [*size, i, o]."""
    return _onto_kernel.bind(x, g, window=window)


# --- one kernel -----------------------------------------------------------------------------------------------


def _numbers(window: Window) -> lax.ConvDimensionNumbers:
    rank = len(window.extent)
    rows, kernel = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    return lax.ConvDimensionNumbers(rows, kernel, rows)


def _plain_forward(x: Array, kernel: Array, *, window: Window) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=_numbers(window),
        preferred_element_type=x.dtype,
    )


def _plain_onto_input(g: Array, kernel: Array, *, window: Window) -> Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *window.extent, kernel.shape[-2]), g.dtype)
    return jax.linear_transpose(lambda x: _plain_forward(x, kernel, window=window), x)(g)[0]


def _plain_onto_kernel(x: Array, g: Array, *, window: Window) -> Array:
    kernel = jax.ShapeDtypeStruct((*window.size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _plain_forward(x, kernel, window=window), kernel)(g)[0]


def _stated_onto_input(g: Array, kernel: Array, *, window: Window) -> Array:
    """As a convolution in the fast layout: g with zeros between its entries, under the kernel turned round."""
    rank = len(window.extent)
    back = jnp.flip(kernel, axis=tuple(range(rank))).swapaxes(-1, -2)
    reach = [s * (o - 1) + 1 for s, o in zip(window.strides, window.out)]
    span = [d * (k - 1) for d, k in zip(window.dilation, window.size)]
    padding = [(w - low, n + low - r) for (low, _), n, w, r in zip(window.padding, window.extent, span, reach)]
    apart = [(0, 0, 0), *((0, 0, s - 1) for s in window.strides), (0, 0, 0)]
    return lax.conv_general_dilated(
        lax.pad(g, jnp.zeros((), g.dtype), apart),
        lax.optimization_barrier(back),
        (1,) * rank,
        padding,
        rhs_dilation=window.dilation,
        dimension_numbers=_numbers(window),
        preferred_element_type=g.dtype,
    )


def _stated_onto_kernel(x: Array, g: Array, *, window: Window) -> Array:
    """As a convolution in the fast layout: channels are the rows, rows the channels, and g is the kernel."""
    rank = len(window.extent)
    spatial = range(1, rank + 1)
    # the barriers keep XLA from folding the transposes back into the layout that is slow in a loop
    left = lax.optimization_barrier(x.transpose(rank + 1, *spatial, 0))
    right = lax.optimization_barrier(g.transpose(*spatial, 0, rank + 1))
    reach = [s * (o - 1) + 1 for s, o in zip(window.strides, window.out)]
    padding = [
        (low, d * (k - 1) + r - n - low)
        for (low, _), d, k, r, n in zip(window.padding, window.dilation, window.size, reach, window.extent)
    ]
    made = lax.conv_general_dilated(
        left,
        right,
        window.dilation,
        padding,
        rhs_dilation=window.strides,
        dimension_numbers=_numbers(window),
        preferred_element_type=x.dtype,
    )
    return made.transpose(*spatial, 0, rank + 1)


# --- many kernels ---------------------------------------------------------------------------------------------


def _patches(x: Array, window: Window) -> Array:
    """Every window's entries, [n, *out, prod(size) * i], by slices: a convolution would be the slow kind."""
    x = lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
    )
    pieces = []
    for place in itertools.product(*(range(k) for k in window.size)):
        first = [d * at for d, at in zip(window.dilation, place)]
        last = [f + s * (o - 1) + 1 for f, s, o in zip(first, window.strides, window.out)]
        pieces.append(lax.slice(x, (0, *first, 0), (x.shape[0], *last, x.shape[-1]), (1, *window.strides, 1)))
    return jnp.concatenate(pieces, axis=-1)


def _by_patches(x: Array, kernel: Array, *, window: Window) -> Array:
    return _patches(x, window) @ kernel.reshape(-1, kernel.shape[-1])


def _patches_onto_input(g: Array, kernel: Array, *, window: Window) -> Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *window.extent, kernel.shape[-2]), g.dtype)
    flat = kernel.reshape(-1, kernel.shape[-1])
    return jax.linear_transpose(lambda x: _patches(x, window), x)(g @ flat.T)[0]


def _patches_onto_kernel(x: Array, g: Array, *, window: Window) -> Array:
    found = _patches(x, window)
    made = found.reshape(-1, found.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return made.reshape(*window.size, x.shape[-1], g.shape[-1])


# --- primitives -----------------------------------------------------------------------------------------------


def _rows_together(primitive: Primitive, rows: Array, axis: int, kernel: Array, window: Window) -> Any:
    """A batch of row batches under one kernel is a larger batch."""
    rows = jnp.moveaxis(rows, axis, 0)
    made = primitive.bind(rows.reshape(-1, *rows.shape[2:]), kernel, window=window)
    return made.reshape(*rows.shape[:2], *made.shape[1:]), 0


def _batched(primitive: Primitive, many: Any, shared_kernel: bool) -> Any:
    def rule(args: Any, axes: Any, *, window: Window) -> Any:
        first, second = args
        if shared_kernel and axes[1] is None:
            return _rows_together(primitive, first, axes[0], second, window)
        return jax.vmap(lambda a, b: many(a, b, window=window), in_axes=tuple(axes))(first, second), 0

    return rule


def _made(name: str, shape: Any, one: Any, many: Any, *, shared_kernel: bool, cpu: Any = None) -> Primitive:
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(one if cpu is None else _on(one, cpu), static_argnames="window"))
    primitive.def_abstract_eval(lambda a, b, *, window: ShapedArray(shape(a, b, window), a.dtype))
    mlir.register_lowering(primitive, mlir.lower_fun(one, multiple_results=False))
    if cpu is not None:
        mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    batching.primitive_batchers[primitive] = _batched(primitive, many, shared_kernel)
    return primitive


def _on(one: Any, cpu: Any) -> Any:
    def chosen(a: Array, b: Array, *, window: Window) -> Array:
        return (cpu if jax.default_backend() == "cpu" else one)(a, b, window=window)

    return chosen


_forward = _made(
    "convolution_forward",
    lambda x, kernel, window: (x.shape[0], *window.out, kernel.shape[-1]),
    _plain_forward,
    _by_patches,
    shared_kernel=True,
)
_onto_input = _made(
    "convolution_onto_input",
    lambda g, kernel, window: (g.shape[0], *window.extent, kernel.shape[-2]),
    _plain_onto_input,
    _patches_onto_input,
    shared_kernel=True,
    cpu=_stated_onto_input,
)
_onto_kernel = _made(
    "convolution_onto_kernel",
    lambda x, g, window: (*window.size, x.shape[-1], g.shape[-1]),
    _plain_onto_kernel,
    _patches_onto_kernel,
    shared_kernel=False,
    cpu=_stated_onto_kernel,
)
ad.defbilinear(
    _forward,
    lambda ct, x, kernel, *, window: onto_input(ct, kernel, window),
    lambda ct, x, kernel, *, window: onto_kernel(x, ct, window),
)
ad.defbilinear(
    _onto_input,
    lambda ct, g, kernel, *, window: forward(ct, kernel, window),
    lambda ct, g, kernel, *, window: onto_kernel(ct, g, window),
)
ad.defbilinear(
    _onto_kernel,
    lambda ct, x, g, *, window: onto_input(g, ct, window),
    lambda ct, x, g, *, window: forward(x, ct, window),
)
