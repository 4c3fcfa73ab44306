"""Weight divergence: how far federated training is from training on all rows at once, and its bound.

Both start at the same w, with the same step size and the same number of steps, by full gradients: rounds of T
local steps and an average on one side, as many steps on the union of all rows on the other.

    divergence = |w_fed - w_cent| / |w_cent|

Reference: Zhao, Li, Lai, Suda, Civin, Chandra, "Federated learning with non-IID data", 2018
    (arXiv 1806.00582), section 3.1 and proposition 3.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.check import number, positive_int, require, short
from fedjax_het.problem import Problem, batch_mean
from fedjax_het.typing import Array, Params, PyTree

__all__ = ["Central", "central_path", "weight_divergence", "zhao_bound"]


class Central(NamedTuple):
    """Training on all rows at once.

    Attributes:
        params: before every step and after the last, leaves [S + 1, ...].
        slopes: g_max(w) = max_i |grad E_{x|y=i} loss(w)| before every step, float [S].
    """

    params: Params
    slopes: Array


def weight_divergence(federated: PyTree, central: PyTree) -> Array:
    """|w_fed - w_cent| / |w_cent| over all leaves, scalar; infinity if only w_cent is zero, NaN if both are."""
    apart = jnp.sqrt(tree.sum_of_squares(tree.subtract(federated, central)))
    size = jnp.sqrt(tree.sum_of_squares(central))
    ratio = apart / jnp.where(size > 0, size, 1)
    return jnp.where(size > 0, ratio, jnp.where(apart > 0, jnp.inf, jnp.nan))


def central_path(
    problem: Problem, start: Params, x: Any, y: Any, *, learning_rate: Any, steps: int, num_classes: int
) -> Central:
    """Gradient descent on all rows, w <- w - eta grad F(w), with the steepest class on the way.

    Args:
        problem: a classification problem of a model without buffers.
        start: w_0.
        x: features of all rows [M, ...], floats as the model takes them.
        y: labels [M], int.
        learning_rate: eta > 0.
        steps: S; static.
        num_classes: K; static. A class without rows has slope 0.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or size.
    """
    eta = number("learning_rate", learning_rate, above=0, remedy="take the clients' own")
    steps = positive_int("steps", steps, remedy="local steps times rounds")
    classes = jnp.arange(positive_int("num_classes", num_classes), dtype=jnp.int32)
    x, y = jnp.asarray(x), jnp.asarray(y)
    member = (y[None, :] == classes[:, None]).astype(jnp.result_type(float))
    share = jnp.sum(member, axis=1) / len(y)

    def loss(params: Params, weight: Array) -> Array:
        return batch_mean(problem.losses(problem.apply(params, (), x)[0], y), weight)

    def step(params: Params, _: None) -> tuple[Params, tuple[Params, Array]]:
        by_class = jax.vmap(jax.grad(loss), (None, 0))(params, member)
        steepest = jnp.sqrt(jnp.max(jax.vmap(tree.sum_of_squares)(by_class)))
        grads = jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, 1), by_class)
        grads = tree.add(grads, jax.grad(problem.ridge)(params))
        return tree.subtract(params, tree.scale(eta, grads)), (params, steepest)

    start = jax.tree.map(jnp.asarray, start)
    last, (path, slopes) = jax.lax.scan(step, start, None, length=steps)
    path = jax.tree.map(lambda leaf, end: jnp.concatenate([leaf, end[None]]), path, last)
    return Central(path, slopes)


def zhao_bound(
    shares: Any, p: Any, smoothness: Any, slopes: Any, *, learning_rate: Any, local_steps: int, l2: Any = 0.0
) -> Array:
    """A bound of |w_fed - w_cent| after every round, float [R + 1] beginning with 0, in the unit of w.

    With P_k the label shares of client k, q = sum_k p_k P_k, lambda_i the Lipschitz constant of
    grad E_{x|y=i} loss, T local steps, and a_k = |1 - eta l2| + eta sum_i P_k(i) lambda_i:

        D_{m+1} <= sum_k p_k a_k^T D_m + eta sum_k p_k |P_k - q|_1 sum_{j<T} a_k^j g_max(w_cent, T - 1 - j)

    where g_max(w_cent, j) is the steepest class after j steps of the m-th round's centralised path. It holds if
    clients differ in their shares of labels and in nothing else: p(x | y) must be the same for all, which rows
    dealt out at random are not, see `label_skew`. Full gradients, all clients in every round.

    Args:
        shares: P [N, K], rows that sum to 1.
        p: weights of clients [N], scaled to sum to 1.
        smoothness: lambda [K].
        slopes: g_max before every step of the centralised path, [R T], see `central_path`.
        learning_rate: eta > 0.
        local_steps: T; static.
        l2: coefficient of (l2/2)|w|^2, which all clients share.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or size.

    Departures:
        Shared weight decay, which the paper leaves out, contracts by |1 - eta l2|. The paper states one round
        and suggests repeating it; here it is carried on.
    """
    local_steps = positive_int("local_steps", local_steps, remedy="T gradient steps a round")
    eta = number("learning_rate", learning_rate, above=0, remedy="take the clients' own")
    P, weight, lipschitz, steep = (
        number(name, value, least=0, remedy=remedy)
        for name, value, remedy in (
            ("shares", shares, "rows of a client by label over all of its rows"),
            ("p", p, "rows of a client over all rows"),
            ("smoothness", smoothness, "see class_smoothness"),
            ("slopes", slopes, "see central_path"),
        )
    )
    require(
        P.ndim == 2 and weight.shape == P.shape[:1] and lipschitz.shape == P.shape[1:],
        f"shares, p and smoothness must be [N, K], [N] and [K], got {short(P)}, {short(weight)} and "
        f"{short(lipschitz)}: one row a client, one column a label",
    )
    require(
        steep.ndim == 1 and steep.shape[0] % local_steps == 0,
        f"slopes must be one number for each of local_steps={local_steps} steps of every round, got "
        f"{short(steep)}: make the centralised path of rounds x local_steps steps",
    )
    weight = weight / jnp.sum(weight)
    growth = jnp.abs(1 - eta * number("l2", l2, least=0)) + eta * P @ lipschitz
    skew = jnp.sum(jnp.abs(P - (weight @ P)[None, :]), axis=1)
    powers = growth[:, None] ** jnp.arange(local_steps, dtype=P.dtype)[None, :]
    carried = weight @ growth**local_steps

    def after(bound: Array, slope: Array) -> tuple[Array, Array]:
        added = eta * jnp.sum(weight * skew * (powers @ jnp.flip(slope)))
        bound = carried * bound + added
        return bound, bound

    zero = jnp.zeros((), P.dtype)
    _, bounds = jax.lax.scan(after, zero, steep.reshape(-1, local_steps))
    return jnp.concatenate([zero[None], bounds])
