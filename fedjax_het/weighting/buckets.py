"""Sizes told by the bucket that they lie in."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithm import Cohort
from fedjax_het.check import MOST, number, require, scalar, short
from fedjax_het.typing import Array
from fedjax_het.weighting.plain import normalise

__all__ = ["Buckets", "buckets"]

FEWEST = 32
"""Length of `Buckets.edges` at least: those of every base from 2 on, so that such a base compiles nothing."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Buckets:
    """See `buckets`.

    Attributes:
        edges: the least size of bucket 1, 2, ..., ascending, then inf; float [E].
        middle: the size that stands for bucket 0, 1, ...; float [E + 1].
    """

    edges: Array
    middle: Array

    def __call__(self, sizes: Array, cohort: Cohort) -> Array:
        """omega [C], 0 where absent."""
        return normalise(self.middle.astype(sizes.dtype)[self.revealed(sizes)], cohort)

    def revealed(self, sizes: Array) -> Array:
        """b(n_k), all that a client tells: how many edges are at most its size; int32, shaped as sizes.

        Comparisons of whole numbers, so that no logarithm rounds a power of the base into the bucket below.
        """
        return jnp.searchsorted(self.edges.astype(sizes.dtype), sizes, side="right").astype(jnp.int32)


def buckets(base: Any = 2.0, *, edges: Any = None) -> Buckets:
    """omega_k proportional to the middle of the bucket that n_k lies in: r_b with b = floor(log_base n_k).

        r_b = base^(b + 1/2),    the geometric mean of the ends of [base^b, base^(b + 1))

    It reveals b(n_k) and nothing else of the size: two clients in one bucket cannot be told apart by it. A
    weight is off by a factor of at most sqrt(base) before normalising. The number of local steps that a method
    reports (FedNova, SCAFFOLD's option II by its scale) reveals n_k still.

    Args:
        base: in (1, 2^31): the ratio of a bucket's ends. It fixes the number of buckets up to 2^31 rows.
        edges: instead of a base, the sizes at which buckets 1, 2, ... begin, ascending, > 0. Bucket 0 begins at
            1 row. The last bucket has no upper end; its lower one stands for it.

    Returns:
        A weighting. Sizes are exact as floats up to 2^24 rows in float32.

    Raises:
        TypeError: no numbers.
        ValueError: a base outside (1, 2^31), edges that do not ascend or are not > 0.
    """
    if edges is None:
        base = scalar("base", base, above=1, remedy="2 doubles from bucket to bucket")
        require(base < MOST, f"base must be < 2^31, got {base:g}: every size is in bucket 0; use uniform()")
        begins = _powers(base)
        middle = base ** (np.arange(len(begins) + 1) + 0.5)
    else:
        begins = _ascending(edges)
        lower = np.concatenate([[1.0], begins])
        upper = np.concatenate([begins, begins[-1:]])
        middle = np.sqrt(np.maximum(lower, 1.0) * np.maximum(upper, 1.0))
    length = max(FEWEST, 2 ** math.ceil(math.log2(len(begins))))
    unused = length - len(begins)
    real = jnp.result_type(float)
    return Buckets(
        jnp.asarray(np.pad(begins, (0, unused), constant_values=np.inf), real),
        jnp.asarray(np.pad(middle, (0, unused), mode="edge"), real),
    )


def _powers(base: float) -> np.ndarray:
    """The least whole numbers that are not below base, base^2, ... up to the largest int32."""
    powers = base ** np.arange(1, math.ceil(math.log(MOST) / math.log(base)) + 1)
    near = np.round(powers)
    # a power within rounding of a whole number is that number
    begins = np.where(np.abs(powers - near) <= 1e-9 * near, near, np.ceil(powers))
    return begins[begins <= MOST]


def _ascending(edges: Any) -> np.ndarray:
    values = np.asarray(
        number("edges", edges, above=0, remedy="list the sizes at which buckets begin"), np.float64
    )
    require(
        values.ndim == 1 and values.size > 0 and bool(np.all(np.diff(values) > 0)),
        f"edges must be one list of ascending sizes, got {short(edges)}: such as [10, 100, 1000]",
    )
    return values
