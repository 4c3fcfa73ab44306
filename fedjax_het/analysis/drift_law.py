"""The law of drift: its exponent in the local steps, its growth over rounds, and its closed form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.analysis.oracles.filters import constant_work, local_filter
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number, positive_int, require, short
from fedjax_het.typing import Array

__all__ = ["drift_exponent", "drift_growth", "quadratic_path"]


def drift_exponent(drift: Any, steps: Any = None) -> Array:
    """The slope of log d(j) over log j, j = 1..E: 1 while gradients barely change, towards 0 where d saturates.

    A least-squares line; drift is linear in j as long as eta j L is far below 1.

    Args:
        drift: d(j) for j = 0..E, float [..., E + 1], such as "by_client" of `local_path`; d(0) is not read.
        steps: tau, int [...]: only j <= tau count, since a client that has finished stays where it is.

    Returns:
        Float [...]; nan with fewer than two steps, or where some d(j) is 0, nan or infinite.

    Raises:
        TypeError: no numbers.
        ValueError: no two steps.
    """
    drift = jnp.asarray(drift)
    require(
        drift.ndim > 0 and drift.shape[-1] > 2,
        f"drift must have shape [..., E + 1] with E >= 2, got {list(drift.shape)}: one value a step",
    )
    value = drift[..., 1:].astype(jnp.result_type(float))
    j = jnp.arange(1, drift.shape[-1], dtype=jnp.int32)
    last = jnp.asarray(drift.shape[-1] - 1 if steps is None else steps, jnp.int32)
    counts = jnp.broadcast_to(j, value.shape) <= jnp.broadcast_to(last[..., None], value.shape)
    sound = jnp.all(jnp.where(counts, (value > 0) & jnp.isfinite(value), True), axis=-1)
    x = jnp.broadcast_to(jnp.log(j.astype(value.dtype)), value.shape)
    y = jnp.log(jnp.where(counts & (value > 0), value, 1))
    many = jnp.sum(counts, axis=-1, dtype=value.dtype)

    def centred(z: Array) -> Array:
        mean = jnp.sum(jnp.where(counts, z, 0), axis=-1) / jnp.maximum(many, 1)
        return jnp.where(counts, z - mean[..., None], 0)

    x, y = centred(x), centred(y)
    width = jnp.sum(x * x, axis=-1)
    slope = jnp.sum(x * y, axis=-1) / jnp.where(width > 0, width, 1)
    return jnp.where(sound & (many >= 2), slope, jnp.nan)


def drift_growth(drift: Any) -> Array:
    """Drift of a round over that of the round before: below 1 while training settles.

    It falls with the gradients whatever the number of local steps, so that it says nothing on how drift grows
    with E; `drift_exponent` does.

    Args:
        drift: one value a round, float [..., T], such as a History's "measure/NAME/drift".

    Returns:
        Float [..., T - 1]; nan after a round without drift.

    Raises:
        ValueError: fewer than two rounds.
    """
    drift = jnp.asarray(drift, jnp.result_type(float))
    require(
        drift.ndim > 0 and drift.shape[-1] > 1,
        f"drift must have shape [..., T] with T >= 2, got {list(drift.shape)}: one value a round",
    )
    before, after = drift[..., :-1], drift[..., 1:]
    return jnp.where(before > 0, after / jnp.where(before > 0, before, 1), jnp.nan)


def quadratic_path(functions: Quadratics, w: Any, *, learning_rate: Any, steps: int) -> Array:
    """w_k,j - w of gradient steps on quadratics: -(I - (I - eta A_k)^j) (w - a_k), j = 0..E.

    Its length is linear in j, of slope eta |grad F_k(w)|, until eta j L is about 1, and then approaches
    |w - a_k|. At w* it follows sum_k p_k d_k(j)^2 = (eta j)^2 zeta_*^2 + O(eta^3).

    Args:
        functions: the clients'; without a minimum they drift on and on.
        w: where the round starts [d].
        learning_rate: eta > 0.
        steps: E >= 1; it fixes a shape.

    Returns:
        Float [N, E + 1, d]; lengths over the last axis are d_k(j).

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.
    """
    steps = positive_int("steps", steps, remedy="say how many local steps, such as 5")
    w = number("w", w, remedy="one number a coordinate")
    require(
        jnp.shape(w) == (functions.dimension,),
        f"w must have shape [{functions.dimension}], got {short(w)}: one number a coordinate",
    )
    values, vectors = jnp.linalg.eigh(functions.A)
    own = functions.gradients(w.astype(functions.b.dtype))
    turned = jnp.einsum("nij,ni->nj", vectors, own, precision="highest")

    def at(j: Array) -> Array:
        reached = local_filter(values, constant_work(functions.count, learning_rate, j))
        return -jnp.einsum("nij,nj->ni", vectors, reached * turned, precision="highest")

    return jax.vmap(at, out_axes=1)(jnp.arange(steps + 1, dtype=jnp.int32))
