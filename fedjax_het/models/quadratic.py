"""Quadratic functions, one a client: the bench on which algorithms have closed forms.

A row of the pool is a function F(w) = 1/2 w'Aw - b'w + c: its features are A, its targets b and c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import number, require, short
from fedjax_het.federation import Federation, FederationSpec, Rows
from fedjax_het.pool import Pool, expect_pool
from fedjax_het.pool import pool as make_pool
from fedjax_het.problem import Facts, Model, Problem
from fedjax_het.typing import Array, ArrayLike, Bound, Key, Metrics, Params

__all__ = ["quadratic", "quadratic_federation", "quadratic_pool"]


def _init(dimension: int, start: tuple[float, ...] | None, key: Key) -> Model:
    del key
    dtype = jnp.result_type(float)
    return Model({"w": jnp.zeros((dimension,), dtype) if start is None else jnp.asarray(start, dtype)}, ())


def _apply(
    params: Params, buffers: Any, x: Array, key: Key | None = None, train: bool = False
) -> tuple[tuple[Array, Array], Any]:
    del key, train
    w = params["w"]
    return (jnp.broadcast_to(w[None, :], (x.shape[0], w.shape[0])), x.astype(w.dtype)), buffers


def _losses(out: tuple[Array, Array], y: Array) -> Array:
    w, matrix = out
    y = y.astype(w.dtype)
    # Closed forms are compared to many digits, which a GPU's default product of float32 does not give.
    product = jnp.einsum("bij,bj->bi", matrix, w, precision="highest")
    return jnp.sum(w * (product / 2 - y[:, :-1]), axis=1) + y[:, -1]


def _metrics(out: tuple[Array, Array], y: Array) -> Metrics:
    return {"loss": _losses(out, y)}


def quadratic(pool: Pool, *, start: Sequence[float] | None = None) -> Problem:
    """The Problem of a pool whose rows are quadratics: params {"w": [d]}, loss 1/2 w'Aw - b'w + c a row.

    Outputs are the pair (w [B, d], A [B, d, d]), so that only `losses` reads the targets. Metrics: "loss".

    Args:
        pool: rows x = A [d, d] and y = (b, c) [d + 1], as `quadratic_pool` makes them.
        start: w at the start, d numbers; zeros if None.

    Returns:
        A Problem; `facts.convex` says whether every A of the pool is positive semidefinite.

    Raises:
        TypeError: `pool` is not a Pool, or `start` holds no numbers.
        ValueError: the pool's rows are not quadratics, or `start` is not d finite numbers.
    """
    expect_pool("pool", pool)
    shape, target = pool.spec.feature_shape, pool.spec.target_shape
    require(
        pool.spec.task == "regression"
        and len(shape) == 2
        and shape[0] == shape[1]
        and target == (shape[0] + 1,),
        f"pool must hold rows x [d, d] and y [d + 1] of task 'regression', got x {list(shape)} and "
        f"y {list(target)} of task {pool.spec.task!r}: make it with quadratic_pool",
    )
    if start is not None:
        number("start", start, remedy=f"pass {shape[0]} numbers, one for each coordinate of w")
        require(
            np.shape(start) == (shape[0],),
            f"start must be {shape[0]} finite numbers, got {short(start)}: one for each coordinate of w",
        )
        start = tuple(float(value) for value in start)
    matrices = np.asarray(pool.x, np.float64)
    spectrum = np.linalg.eigvalsh((matrices + matrices.swapaxes(1, 2)) / 2)
    convex = bool(spectrum.min() >= -1e-6 * max(1.0, float(abs(spectrum).max())))
    return Problem(
        init=Bound(_init, (shape[0], start)),
        apply=_apply,
        losses=_losses,
        metrics=_metrics,
        facts=Facts("quadratic", convex=convex),
    )


def _vectors(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    value = np.asarray(value, np.float64)
    require(
        value.shape == shape,
        f"{name} must have shape {list(shape)}, got {list(value.shape)}: one entry for each A",
    )
    return value


def quadratic_pool(
    A: ArrayLike,
    a: ArrayLike | None = None,
    *,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    name: str = "quadratic",
) -> Pool:
    """A pool of quadratics, given by their minimisers or by their linear terms.

    F_k(w) = 1/2 (w - a_k)'A_k(w - a_k) with `a` (b = Aa, c = a'Aa/2), or 1/2 w'A_k w - b_k'w + c_k with `b`.

    Args:
        A: symmetric matrices [N, d, d].
        a: stationary points, the minimisers if A is positive definite [N, d].
        b: linear terms [N, d], instead of `a`.
        c: constants [N]; with `a` the default makes F_k(a_k) = 0, with `b` it is 0.
        name: for tables and messages.

    Returns:
        A regression Pool of N rows: x = A, y = (b, c).

    Raises:
        ValueError: both or none of `a` and `b` are given, shapes do not fit, an A is not symmetric, or a
            value is not finite.
    """
    matrices = np.asarray(A, np.float64)
    require(
        matrices.ndim == 3 and matrices.shape[1] == matrices.shape[2],
        f"A must have shape [N, d, d], got {list(matrices.shape)}: stack one square matrix for each function",
    )
    count, dimension = matrices.shape[:2]
    require(
        bool(np.allclose(matrices, matrices.swapaxes(1, 2), rtol=1e-5, atol=1e-6, equal_nan=True)),
        "A must be symmetric, got matrices that differ from their transposes: pass (A + A') / 2",
    )
    if a is not None and b is None:
        points = _vectors("a", a, (count, dimension))
        slopes = np.einsum("nij,nj->ni", matrices, points)
        constants = np.einsum("ni,ni->n", points, slopes) / 2
    elif b is not None and a is None:
        slopes, constants = _vectors("b", b, (count, dimension)), np.zeros(count)
    else:
        given = "both" if a is not None else "neither"
        raise ValueError(f"a or b must be given, and not both, got {given}: a is the minimiser, b = Aa")
    if c is not None:
        constants = _vectors("c", c, (count,))
    y = np.concatenate([slopes, constants[:, None]], axis=1)
    return make_pool(matrices, y, task="regression", name=name)


def quadratic_federation(
    A: ArrayLike,
    a: ArrayLike | None = None,
    *,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    name: str = "quadratic",
) -> Federation:
    """A federation in which client k holds the quadratic F_k: the pool of `quadratic_pool`, a row a client.

    The test row is the same, so that evaluation shows F_k; there are no validation rows.

    Args:
        A: symmetric matrices [N, d, d].
        a: stationary points [N, d].
        b: linear terms [N, d], instead of `a`.
        c: constants [N].
        sizes: how often client k holds its row [N], whole numbers >= 0: F_k stays what it is while the
            client weighs more and takes more steps an epoch. Once if None.
        name: for tables and messages.

    Returns:
        A Federation of N clients and one phase; `truth` holds "minimiser" [N, d] if `a` was given.

    Raises:
        ValueError: as `quadratic_pool`; or sizes are not N whole numbers >= 0, or all zero.
    """
    pool = quadratic_pool(A, a, b=b, c=c, name=name)
    count = pool.num_rows
    held = np.ones(count, np.int64) if sizes is None else np.asarray(sizes)
    require(
        held.shape == (count,) and held.dtype.kind in "iu" and bool((held >= 0).all()) and held.sum() > 0,
        f"sizes must be {count} whole numbers >= 0, not all 0, got {short(sizes)}: one for each client",
    )
    offset = np.cumsum(held) - held
    each = jnp.arange(count, dtype=jnp.int32)
    once = jnp.ones((1, count), jnp.int32)
    return Federation(
        x=pool.x,
        y=pool.y,
        train=Rows(
            index=jnp.asarray(np.repeat(np.arange(count), held), jnp.int32),
            offset=jnp.asarray(offset[None], jnp.int32),
            size=jnp.asarray(held[None], jnp.int32),
        ),
        # An index is never empty, since even a client without rows reads one for its fillers.
        valid=Rows(each, each[None], jnp.zeros_like(once)),
        test=Rows(each, each[None], once),
        transforms=(),
        schedule=None,
        truth={} if a is None else {"minimiser": jnp.asarray(a, jnp.result_type(float))},
        spec=FederationSpec(pool.spec, count, 1, (int(held.max()), 0, 1)),
    )
