"""Sizes told with noise, once."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys
from fedjax_het.algorithm import Cohort
from fedjax_het.check import known, number, whole
from fedjax_het.typing import Array, Key, static
from fedjax_het.weighting.capped import weighting_of

__all__ = ["MECHANISMS", "Noisy", "noisy"]

MECHANISMS = ("laplace", "geometric")
"""laplace: real noise; geometric: whole numbers, two-sided."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Noisy:
    """See `noisy`.

    Attributes:
        epsilon: of one release, float scalar.
        sensitivity: s, in rows, float scalar.
        least: the least size after noise, float scalar.
        key: of the noise of all clients.
        schedule: round -> release, a pytree callable, or None for one release in all.
        base: what makes weights of the noisy sizes.
        mechanism: one of `MECHANISMS`; static.
    """

    epsilon: Array
    sensitivity: Array
    least: Array
    key: Key
    schedule: Any
    base: Any
    mechanism: str = static()

    def __call__(self, sizes: Array, cohort: Cohort) -> Array:
        """omega [C], 0 where absent."""
        return self.base(self.revealed(sizes, cohort), cohort)

    def revealed(self, sizes: Array, cohort: Cohort) -> Array:
        """max(least, n_k + Z_k), all that a client tells: float [C]; of no meaning where absent."""
        release = jnp.zeros((), jnp.int32) if self.schedule is None else self.schedule(cohort.round)
        own = jax.vmap(keys.client, (None, 0))(keys.round_(self.key, release.astype(jnp.int32)), cohort.id)
        noise = jax.vmap(lambda key: self._noise(key, sizes.dtype))(own)
        return jnp.maximum(self.least.astype(sizes.dtype), sizes + noise)

    def _noise(self, key: Key, dtype: Any) -> Array:
        """One Z, float scalar."""
        scale = (self.sensitivity / self.epsilon).astype(dtype)
        if self.mechanism == "laplace":
            return scale * jax.random.laplace(key, (), dtype)
        # the floor of an exponential of mean s/eps is geometric with ratio exp(-eps/s)
        up, down = jnp.floor(scale * jax.random.exponential(key, (2,), dtype))
        return up - down


def noisy(
    epsilon: Any,
    *,
    sensitivity: Any = 1.0,
    mechanism: str = "laplace",
    seed: Any = 0,
    least: Any = 1.0,
    schedule: Any = None,
    base: Any = None,
) -> Noisy:
    """omega_k proportional to max(least, n_k + Z_k), with one draw Z_k for each client.

        laplace:    Z of density exp(-|z| eps / s) eps / (2 s)
        geometric:  P(Z = z) = (1 - a) / (1 + a) a^|z|,  a = exp(-eps / s)

    It reveals the noisy size once, and that is eps-differentially private with respect to a change of the
    client's data by s rows: s = 1 hides one row, s as large as sizes can differ hides the size. The clamp, the
    normalisation, caps and buckets that follow see the noisy size alone and cost nothing. `privacy` says what
    is spent and by how much the clamp biases.

    The draw belongs to (seed, client), never to a round: noise drawn anew every round averages out, and R
    rounds of it cost R eps. When the data change over phases a client's size does, and one draw would show the
    difference of two sizes exactly: give the federation's schedule, and each phase is a release with a draw of
    its own that costs another eps. A phase that comes back has the draw it had.

    What it does not hide: that a client has rows at all (an empty one is absent), and what an algorithm reports
    beside its update (numbers of local steps). Laplace noise as floating point numbers has gaps that give
    values away (Mironov, CCS 2012); geometric noise is whole numbers. In a simulation the seed is known; in
    earnest each client draws for itself.

    Args:
        epsilon: eps > 0; a leaf.
        sensitivity: s > 0, in rows; a leaf.
        mechanism: one of `MECHANISMS`.
        seed: of the noise, a whole number.
        least: the least size after noise, > 0; a leaf.
        schedule: round (int32 scalar) -> release (int32 scalar), such as `federation.schedule`; None when sizes
            do not change.
        base: the weighting that is given the noisy sizes in place of the sizes: `proportional()` by default,
            `buckets()`, `clip_counts(100)`.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: epsilon, sensitivity or least not > 0, an unknown mechanism, a negative seed.

    Reference:
        Dwork, McSherry, Nissim, Smith, TCC 2006, section 3 (Laplace). Ghosh, Roughgarden, Sundararajan, STOC
        2009, section 2 (geometric).
    """
    known("mechanism", mechanism, MECHANISMS)
    epsilon = number("epsilon", epsilon, above=0, remedy="small values hide more; 0 would hide everything")
    sensitivity = number("sensitivity", sensitivity, above=0, remedy="1 hides one row")
    least = number("least", least, above=0, remedy="a client that takes part has a weight")
    if not (schedule is None or callable(schedule)):
        raise TypeError(
            f"schedule must be a function of the round, got {type(schedule).__name__}: pass "
            "federation.schedule, or None if sizes stay"
        )
    if schedule is not None and jax.tree_util.all_leaves([schedule]):
        schedule = jax.tree_util.Partial(schedule)
    key = keys.stream(jax.random.key(whole("seed", seed, least=0)), "noisy sizes")
    return Noisy(epsilon, sensitivity, least, key, schedule, weighting_of(base), mechanism)
