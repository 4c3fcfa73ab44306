"""Cohorts in which some clients are likelier than others: in proportion to their rows, or as told."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.check import number, positive_int, require
from fedjax_het.engine.sampling.fits import expect_fits
from fedjax_het.engine.sampling.race import race
from fedjax_het.engine.sampling.sampler import Draw, counted, some
from fedjax_het.typing import Array, Key, PyTree, static

__all__ = ["Weighted", "given", "proportional"]

SLACK = 1e-6
"""How far probabilities may sum from 1."""

_UNIT = 2.0**30
"""Into how many parts a probability of 1 is cut, so that sums over clients are exact."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weighted:
    """See `proportional` and `given`; `probabilities` is float [N], or None for n_k/n."""

    probabilities: Array | None
    size: int = static()
    replacement: bool = static()

    def init(self, num_clients: int) -> PyTree:
        """Nothing to remember.

        Raises:
            ValueError: more cohort than clients, without replacement; not one probability a client.
        """
        if not self.replacement:
            expect_fits("size", self.size, num_clients)
        if self.probabilities is not None:
            require(
                self.probabilities.shape == (num_clients,),
                f"probabilities must be one number for each of the {num_clients} clients, got shape "
                f"{self.probabilities.shape}: 0 leaves a client out",
            )
        return ()

    def draw(
        self, state: PyTree, key: Key, round_: Array, sizes: Array, last_loss: Array
    ) -> tuple[Draw, PyTree]:
        """See `Sampler`. One pass over the N clients, nothing sorted but the cohort."""
        num_clients = sizes.shape[0]
        self.init(num_clients)
        shares = sizes if self.probabilities is None else self.probabilities
        if not self.replacement:
            return some(race(key, shares, self.size), num_clients), state
        mass = sizes if self.probabilities is None else jnp.round(shares * _UNIT)
        # whose part a part drawn uniformly is: sums of whole numbers lose nothing, however many the clients
        ends = jnp.cumsum(mass.astype(jnp.int32), dtype=jnp.int32)
        part = jax.random.randint(key, (self.size,), 0, ends[-1], jnp.int32)
        ids = jnp.searchsorted(ends, part, side="right").astype(jnp.int32)
        return counted(ids, num_clients), state


def proportional(size: int, *, replacement: bool = True) -> Weighted:
    """`size` draws a round, client k with probability p_k = n_k/n; an empty client never.

    With replacement this is the sampling of scheme I: where each draw counts 1/m, the expected step is that of
    full participation with weights p_k. Without, it is neither scheme: inclusion probabilities are not m p_k,
    so averaging such a cohort uniformly is slightly biased towards small clients.

    Args:
        size: m, draws of a round; without replacement, clients of a cohort.
        replacement: m independent draws. A client drawn twice holds one slot, runs once and counts twice; the
            cohort has min(m, N) slots, of which draws that coincide leave some absent.

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.

    Reference: Li et al., "On the Convergence of FedAvg on Non-IID Data", ICLR 2020, section 3.3, scheme I;
    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, Algorithm 2.
    """
    return Weighted(
        None, positive_int("size", size, remedy="a cohort has at least one client"), bool(replacement)
    )


def given(size: int, probabilities: Any, *, replacement: bool = True) -> Weighted:
    """`size` draws a round, client k with the probability given for it, whatever it holds.

    Args:
        size: m, draws of a round; without replacement, clients of a cohort.
        probabilities: one number a client, [N]; 0 leaves one out. A leaf. With replacement they are kept to
            2**-30. An empty client may be drawn, and is absent then.
        replacement: see `proportional`.

    Raises:
        TypeError: not numbers.
        ValueError: negative probabilities, or ones that do not sum to 1; without replacement, fewer than
            `size` of them above 0.
    """
    size = positive_int("size", size, remedy="a cohort has at least one client")
    if not isinstance(probabilities, Tracer):
        kept = number("probabilities", probabilities, least=0, remedy="0 leaves a client out")
        exact = np.asarray(probabilities, np.float64)
        require(
            exact.ndim == 1,
            f"probabilities must be one number a client, got shape {exact.shape}: pass a list of N",
        )
        total = float(exact.sum())
        require(
            abs(total - 1) <= SLACK,
            f"probabilities must sum to 1, got {total:.9g}: divide them by their sum",
        )
        likely = int((exact > 0).sum())
        require(
            replacement or size <= likely,
            f"size must be <= the number of clients with a probability above 0, got {size} of {likely}: draw "
            "fewer, or with replacement=True",
        )
        probabilities = kept
    return Weighted(probabilities, size, bool(replacement))
