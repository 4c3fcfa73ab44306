"""Gradient noise: the variance of every client's stochastic gradient, as a measure."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.analysis.point import looked_at, placed
from fedjax_het.analysis.variances import ROWS, of_batches, row_variance
from fedjax_het.check import number, positive_int
from fedjax_het.problem import Model
from fedjax_het.typing import Array, PyTree, static

__all__ = ["GradientNoise", "gradient_noise"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientNoise:
    """See `gradient_noise`."""

    batch_size: Array
    model: Model | None = None
    replacement: bool = static(default=False)
    place: str = static(default="server")
    at_a_time: int = static(default=ROWS)

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember."""
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: nothing. Each: sigma_k^2."""
        point = looked_at(self.place, self.model, algorithm, server, client)
        one = row_variance(algorithm.problem, point, client.data, client.key, at_a_time=self.at_a_time)
        return (), of_batches(one, client.data.size, self.batch_size, replacement=self.replacement)

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """sigma_k^2 of those present, the largest, and the two means that theorems use."""
        anybody = jnp.any(cohort.present)
        kept = jnp.where(cohort.present, each, 0)
        p = cohort.weight / jnp.where(cohort.mass > 0, cohort.mass, 1)
        values = {
            "variance": jnp.where(cohort.present, each, jnp.nan),
            "largest": jnp.where(anybody, jnp.max(kept), jnp.nan),
            "mean": jnp.where(anybody, p @ kept, jnp.nan),
            "of_mean": jnp.where(anybody, p**2 @ kept, jnp.nan),
        }
        return values, carry


def gradient_noise(
    batch_size: Any = 1, *, replacement: bool = False, at: str | Model = "server", at_a_time: int = ROWS
) -> GradientNoise:
    """sigma_k^2(w) = E|g - grad F_k(w)|^2 for the mean gradient g of a batch of client k's rows.

    Exact, from all of a client's rows: two passes over them, by a gradient for each row, or without for linear
    models; see `variances`. A theorem's sigma_k^2 bounds it at every iterate: the largest value over a run is
    that of the points visited, not a supremum.

    Args:
        batch_size: B >= 1, a leaf.
        replacement: whether the rows of a batch are drawn independently. The library's solvers draw without.
        at: where w lies, see `gradient_dissimilarity`.
        at_a_time: rows whose gradients are held at a time.

    Returns:
        A `Measure` with values, in loss^2 / parameter^2, "variance" float [C], NaN where absent; "largest" of
        them; "mean", sum_k p_k sigma_k^2; and "of_mean", sum_k p_k^2 sigma_k^2, the variance of the mean
        gradient; p are the cohort's weights, scaled to sum to 1.

    Raises:
        TypeError, ValueError: B or `at_a_time` is below 1, or an unknown place.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, Assumption 3.
    """
    place, model = placed(at)
    batch = number("batch_size", batch_size, least=1, remedy="a batch has at least one row")
    at_a_time = positive_int("at_a_time", at_a_time, remedy="give the number of gradients that fit into memory")
    return GradientNoise(batch, model, bool(replacement), place, at_a_time)
