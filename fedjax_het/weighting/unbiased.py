"""Weights under which the cohort's step is, on average, that of all clients."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.algorithm import Cohort
from fedjax_het.check import number, require, short
from fedjax_het.typing import Array

__all__ = ["Unbiased", "per_draw", "unbiased"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unbiased:
    """See `unbiased`.

    Attributes:
        probability: pi, scalar or [N], or None for draws that are equally likely.
        weights: p, [N], or None for n_k/n.
    """

    probability: Array | None
    weights: Array | None

    def __call__(self, sizes: Array, cohort: Cohort) -> Array:
        """omega [C], 0 where absent.

        Raises:
            ValueError: probabilities or weights of another number of clients.
        """
        if self.weights is None:
            share = sizes / jnp.where(cohort.rows > 0, cohort.rows, 1).astype(sizes.dtype)
        else:
            share = _of_clients("weights", self.weights, sizes, cohort)
        if self.probability is None:
            draws = _draws(cohort)
            registered = jnp.asarray(cohort.population, sizes.dtype)
            omega = registered * share * cohort.multiplicity / jnp.where(draws > 0, draws, 1)
        else:
            omega = share / _of_clients("probability", self.probability, sizes, cohort)
        return jnp.where(cohort.present, omega, 0)


def _of_clients(name: str, values: Array, sizes: Array, cohort: Cohort) -> Array:
    """One number a slot."""
    if values.ndim == 0:
        return values.astype(sizes.dtype)
    require(
        values.shape == (cohort.population,),
        f"{name} must be one number for each of the {cohort.population} clients, got shape {values.shape}: "
        "list them by client number",
    )
    return values.at[cohort.id].get(mode="clip").astype(sizes.dtype)


def _draws(cohort: Cohort) -> Array:
    """m: how many draws there were, those of clients without rows or work included; slots without one not."""
    return jnp.sum(jnp.where(cohort.id < cohort.population, cohort.multiplicity, 0))


def unbiased(*, probability: Any = None, weights: Any = None) -> Unbiased:
    """omega_k = p_k / pi_k: the step's expectation over cohorts is the step sum_k p_k delta_k of all N clients.

        all draws equally likely:     omega_k = (N / m) p_k          (scheme II: m of N without replacement)
        client k with probability:    omega_k = p_k / pi_k           (Horvitz-Thompson; Bernoulli cohorts)

    N counts every registered client and m every one that was drawn, also the empty ones and those without work:
    dividing by the clients that are present instead would make it a ratio and biased. The weights do not sum to
    1, so the step's length changes from round to round; they multiply updates, never models. (The authors of
    scheme II scale the models themselves, with N fixed to 100, and shrink or stretch the model every round.)

    A client drawn twice counts twice in the first form. In the second it counts once, since pi_k is the
    probability that it is drawn at all. For draws with probability p_k use `per_draw`.

    Where drawn clients drop out at random their slots hold nobody and m counts those that are left; with
    probability = m (1 - chance of dropping out) / N instead, the expectation holds in rounds that nobody
    survives, too.

    It reveals n_k, and the server must know N and n or p.

    Args:
        probability: pi, in (0, 1]: one number for cohorts in which everyone takes part with that probability,
            or [N]; a leaf. None: N clients that are all as likely to be drawn.
        weights: p, [N], non-negative, summing to 1; a leaf. None: n_k/n, over all clients of the phase.

    Raises:
        TypeError: no numbers.
        ValueError: a probability outside (0, 1], weights that are negative or do not sum to 1.

    Reference:
        Li, Huang, Yang, Wang, Zhang, "On the convergence of FedAvg on non-IID data", ICLR 2020, section 3.3
        (scheme II). Horvitz, Thompson, JASA 1952.

    Departures:
        Updates are scaled, not models; with the papers' equal weights the two are the same. Clients drawn that
        do no work contribute no update, which shortens the step on average.
    """
    if probability is not None:
        probability = number(
            "probability",
            probability,
            above=0,
            most=1,
            remedy="a client that is never drawn cannot be made up for",
        )
        _one_or_list("probability", probability)
    if weights is not None and not isinstance(weights, Tracer):
        told, weights = weights, number("weights", weights, least=0, remedy="they are probabilities")
        total = float(np.sum(np.asarray(weights, np.float64)))
        require(
            weights.ndim == 1 and abs(total - 1) <= 1e-5,
            f"weights must be probabilities that sum to 1, one a client, got {short(told)} with sum "
            f"{total:.6g}: divide them by their sum",
        )
    return Unbiased(probability, weights)


def _one_or_list(name: str, values: Array) -> None:
    require(
        values.ndim <= 1,
        f"{name} must be one number or one a client, got shape {values.shape}: list them by client number",
    )


def _per_draw(draws: Array | None, sizes: Array, cohort: Cohort) -> Array:
    count = _draws(cohort) if draws is None else draws.astype(sizes.dtype)
    return jnp.where(cohort.present, cohort.multiplicity / jnp.where(count > 0, count, 1), 0)


def per_draw(*, draws: Any = None) -> Any:
    """omega_k = (how often k was drawn) / m, of m draws with replacement with probabilities p_k (scheme I).

    The expectation over draws is the step sum_k p_k delta_k, whatever the p_k, so the weights know nothing of
    sizes: they reveal only that a client was drawn. A client runs once however often it was drawn.

    m counts all draws, also of clients that are then absent because they have no rows or do no work: what they
    miss is missing from the step. That is unbiased as to who was drawn; `uniform()`, over those present, makes
    the others stand for them. The two are the same when everyone drawn is present. A slot that holds no client
    is no draw; a sampler that turns late clients into such slots hides them, and `draws` says how many there
    were.

    Args:
        draws: m, > 0, a leaf; None: the sum of the multiplicities of the slots that hold a client.

    Raises:
        TypeError: no number.
        ValueError: not >= 1.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, section 3.3 (scheme I); Li et al., MLSys 2020, Algorithm 2.
    """
    if draws is not None:
        draws = number("draws", draws, least=1, remedy="None counts them")
    return jax.tree_util.Partial(_per_draw, draws)
