"""A largest share that holds on the cohort, after normalising."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_het.algorithm import Cohort
from fedjax_het.check import number, require
from fedjax_het.typing import Array
from fedjax_het.weighting.plain import proportional

__all__ = ["Capped", "capped", "weighting_of"]

SLACK = 1e-6
"""How far below 1 the cap times the slots may be: 1/C as float32 may be a little less than 1/C."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Capped:
    """See `capped`.

    Attributes:
        cap: c, the largest share, float scalar.
        base: the weighting that is capped.
    """

    cap: Array
    base: Any

    def __call__(self, sizes: Array, cohort: Cohort) -> Array:
        """omega [C], 0 where absent.

        Raises:
            ValueError: a cap below 1/C, where C shares under it cannot sum to 1; a traced cap passes.
        """
        slots = sizes.shape[0]
        if not isinstance(self.cap, Tracer):
            require(
                bool(np.all(np.asarray(self.cap, np.float64) * slots >= 1 - SLACK)),
                f"cap must be >= 1/{slots} = {1 / slots:.6g} for a cohort of {slots}, got "
                f"{np.min(np.asarray(self.cap)):.6g}: raise it, or draw more clients a round",
            )
        given = jnp.where(cohort.present, self.base(sizes, cohort), 0)
        total = jnp.sum(given)
        share = given / jnp.where(total > 0, total, 1)
        held = jnp.sum((share > 0).astype(share.dtype))
        return _filled(share, jnp.maximum(self.cap.astype(share.dtype), 1 / jnp.maximum(held, 1)))


def _filled(share: Array, cap: Array) -> Array:
    """min(cap, s p) that sums to 1, for shares p that do and a cap of at least one over the positive ones."""
    ordered = -jnp.sort(-share)
    rest = jnp.cumsum(ordered[::-1])[::-1]  # the j-th largest share and all smaller ones
    above = jnp.arange(share.shape[0], dtype=share.dtype)
    scale = (1 - above * cap) / jnp.where(rest > 0, rest, 1)
    fits = (rest > 0) & (scale * ordered <= cap)
    # none fits when the cap is one over the shares and rounding says no: then everyone has the cap
    water = jnp.where(jnp.any(fits), jnp.minimum(cap, scale[jnp.argmax(fits)] * share), cap)
    return jnp.where(share > 0, water, 0)


def capped(cap: Any, *, base: Any = None) -> Capped:
    """omega_k = min(c, s p_k), with the one s at which they sum to 1: no client weighs more than c.

    With p_1 >= p_2 >= ... the base's weights over the cohort, scaled to sum to 1,

        s_j = (1 - j c) / sum_{i > j} p_i,    s = s_j for the first j = 0, 1, ... with s_j p_{j+1} <= c

    This minimises KL(omega | p) under the cap: whoever is below it keeps its proportions to all others below
    it. The cap is per client: one that was drawn twice has its share doubled before the cap, not the cap. It
    holds in every cohort, where weights that were capped over all clients and scaled afterwards break it, as
    do shares clipped and scaled (`clip_counts` is such a scheme). Where empty clients, absent slots or zero
    weights leave fewer than 1/c clients, the cap of that round is one over their number, and all of them have
    it.

    It bounds what one client can do to the model in a round. It hides nothing: the server works it out from
    what the base reveals.

    Args:
        cap: c, in (0, 1]; a leaf. 1 is the base itself.
        base: the weighting to cap; `proportional()` by default. Weights that do not sum to 1 (`unbiased`) are
            scaled to do so, and lose what they had from that.

    Returns:
        A weighting. It refuses a cohort of C slots when c < 1/C, before anything is compiled.

    Raises:
        TypeError: a cap that is no number, a base that is no weighting.
        ValueError: a cap outside (0, 1].
    """
    cap = number("cap", cap, above=0, most=1, remedy="it is the largest share of one client, such as 0.2")
    return Capped(cap, weighting_of(base))


def weighting_of(base: Any) -> Any:
    """`base`, or `proportional()` for None.

    Raises:
        TypeError: it cannot be called, or is a factory that was not called.
    """
    if base is None:
        return proportional()
    if not callable(base) or jax.tree_util.all_leaves([base]):
        got = getattr(base, "__name__", type(base).__name__)
        raise TypeError(
            f"base must be a weighting, a pytree callable, got {got}: "
            "pass one such as fh.weighting.uniform(), or jax.tree_util.Partial(function)"
        )
    return base
