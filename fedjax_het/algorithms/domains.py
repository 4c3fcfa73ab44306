"""Domains: what rows belong to, sums and objectives by domain, and mixtures of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het import tree
from fedjax_het.algorithm import Client
from fedjax_het.check import number, positive_int, require, short
from fedjax_het.federation import Batch, Federation
from fedjax_het.local import Solver
from fedjax_het.problem import Aux, Model, Objective, Problem, batch_mean
from fedjax_het.typing import Array, Bound, Key, Params, PyTree

__all__ = ["count_domains", "domain_objective", "domain_sums", "labels", "members", "mixture"]


def _by_class(client: Array, batch: Batch) -> Array:
    return batch.y


def _by_client(domains: Array, client: Array, batch: Batch) -> Array:
    return jnp.broadcast_to(domains.at[client].get(mode="clip"), batch.weight.shape)


def _by_row(function: Callable[[Array, Array], Array], client: Array, batch: Batch) -> Array:
    return function(batch.x, batch.y).astype(jnp.int32)


def labels(domains: Any, num_domains: int | None) -> tuple[Any, int | None]:
    """How a row's domain is found, and how many there are.

    Args:
        domains: None for a row's class; whole numbers [N], the domain of each client; or a function
            (x [B, ...], y [B, ...]) -> int [B].
        num_domains: K; needed for a function, None for classes.

    Returns:
        (a `jax.tree_util.Partial` (client's number, Batch) -> int [B], K or None for the number of classes).

    Raises:
        TypeError, ValueError: domains that are no such thing, or not below `num_domains`.
    """
    if num_domains is not None:
        positive_int("num_domains", num_domains, remedy="count the domains, from 0 to the highest")
    if domains is None:
        require(
            num_domains is None,
            f"num_domains must be left out without domains, got {num_domains!r}: a row's class is its domain",
        )
        return jax.tree_util.Partial(_by_class), None
    if callable(domains):
        require(
            num_domains is not None,
            "num_domains must be given for a function, got None: say how many domains it tells apart",
        )
        return jax.tree_util.Partial(Bound(_by_row, (domains,))), num_domains
    listed = np.asarray(domains)
    require(
        listed.ndim == 1 and listed.size > 0 and listed.dtype.kind in "iu" and bool((listed >= 0).all()),
        f"domains must be whole numbers >= 0, got {short(domains)}: list one for each client, counting from 0, "
        "or pass a function of (x, y)",
    )
    highest = int(listed.max())
    count = highest + 1 if num_domains is None else num_domains
    require(highest < count, f"domains must be below num_domains={count}, got {highest}: they count from 0")
    return jax.tree_util.Partial(_by_client, jnp.asarray(listed, jnp.int32)), count


def count_domains(label: Any, num_domains: int | None, federation: Federation) -> int:
    """K, once the federation is known.

    Args:
        label: from `labels`.
        num_domains: from `labels`.
        federation: whose rows.

    Raises:
        ValueError: a row has no class to be its domain; or not as many domains listed as there are clients.
    """
    spec, clients = federation.spec.pool, federation.num_clients
    for listed in jax.tree.leaves(label):
        require(
            listed.shape == (clients,),
            f"domains must be one number for each of the {clients} clients, got shape {listed.shape}: "
            "list the domain of every client",
        )
    classes = spec.num_classes if spec.target_shape == () else None
    domains = classes if num_domains is None else num_domains
    if domains is None:
        raise ValueError(
            f"domains must be given for task {spec.task!r}, got None: a row has no class; pass the domain of "
            "each client, or a function of (x, y) with num_domains"
        )
    return domains


def members(label: Any, domains: int, client: Client, batch: Batch) -> Array:
    """Which domain each row belongs to: one-hot float [B, K], zeros for a row of none."""
    return jax.nn.one_hot(label(client.id, batch), domains, dtype=batch.weight.dtype)


def domain_sums(
    problem: Problem, label: Any, domains: int, model: Model, client: Client
) -> tuple[Array, Array]:
    """(sum of losses, number of rows) of each domain over all of a client's rows, float [K] each.

    Without dropout, batch statistics or ridge term.
    """

    def step(carry: tuple[Array, Array], batch: Batch) -> tuple[Array, Array]:
        out, _ = problem.apply(model.params, model.buffers, batch.x)
        losses = jnp.where(batch.weight > 0, problem.losses(out, batch.y), 0).astype(batch.weight.dtype)
        member = members(label, domains, client, batch)
        return carry[0] + losses @ member, carry[1] + batch.weight @ member

    zeros = jnp.zeros((domains,), jnp.result_type(float))
    return client.data.fold_full(step, (zeros, zeros))


def domain_objective(
    problem: Problem, solver: Solver, label: Any, alpha: Array, beta: Array, client: Client
) -> Objective:
    """sum over a batch of alpha_domain loss / beta, and the ridge term if there is one.

    Args:
        problem: what to learn.
        solver: who will minimise it.
        label: from `labels`.
        alpha: the weight of a row of each domain, float [K].
        beta: the sum of the weights of all of the client's rows, scalar; with 0 nothing is learned.
        client: whose rows.
    """

    def scaled(params: Params, buffers: PyTree, batch: Batch, key: Key) -> tuple[Array, Aux]:
        rows = {"weight": batch.weight} if problem.facts.masked else {}
        out, buffers = problem.apply(params, buffers, batch.x, key, train=True, **rows)
        losses, ridge = problem.losses(out, batch.y), problem.ridge(params)
        share = members(label, alpha.size, client, batch) @ alpha
        # a full batch may come in chunks that are averaged by their rows, so it is a mean over rows
        full = solver.plan.batch_size is None
        count = client.data.size.astype(beta.dtype) if full else jnp.sum(batch.weight)
        mean = batch_mean(share.astype(losses.dtype) * losses, batch.weight)
        return tree.divide(count * mean, beta) + ridge, Aux(buffers, batch_mean(losses, batch.weight) + ridge)

    return scaled


def mixture(name: str, weights: Any, remedy: str) -> Array | None:
    """A mixture to start from, scaled later: non-negative numbers [K], not all zero; None and tracers pass.

    Raises:
        TypeError, ValueError: not numbers, not of one axis, negative, or all zero.
    """
    if weights is None or isinstance(weights, Tracer):
        return weights
    values = number(name, weights, least=0, remedy=remedy)
    require(
        values.ndim == 1 and bool(np.any(np.asarray(values) > 0)),
        f"{name} must be a list of numbers, not all zero, got {short(weights)}: {remedy}",
    )
    return values
