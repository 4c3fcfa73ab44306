"""Update cosines: in which directions a cohort's clients went, as a measure."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.analysis.alignment import alignment, cosine_matrix
from fedjax_het.analysis.point import looked_at
from fedjax_het.check import positive_int
from fedjax_het.problem import Model
from fedjax_het.similarity import flatten, project
from fedjax_het.typing import Array, PyTree, static

__all__ = ["UpdateCosines", "update_cosines"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UpdateCosines:
    """See `update_cosines`."""

    seed: Array
    size: int | None = static(default=None)

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember."""
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: nothing. Each: the update, or a projection of it.

        Raises:
            TypeError: nobody worked, or the report does not say where local work ended.
        """
        start = looked_at("server", None, algorithm, server, client)
        if report is None or not isinstance(report.local, Model):
            raise TypeError(
                "report must hold the model that local work ended at, got none: measure update cosines in a "
                "round, of a method whose Report has `local`"
            )
        update = flatten(tree.subtract(report.local.params, start.params))
        return (), update if self.size is None else project(update, self.size, self.seed)

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """The matrix, its mean off the diagonal and its eigenvalues."""
        matrix = cosine_matrix(jnp.where(cohort.present[:, None], each, 0))
        found = alignment(matrix)
        return {"cosines": matrix, "mean": found.mean, "eigenvalues": found.eigenvalues}, carry


def update_cosines(size: int | None = None, *, seed: int = 0) -> UpdateCosines:
    """S_kl = <D_k, D_l> / (|D_k| |D_l|) of the cohort's updates D_k = w_k,E - w.

    w is the global model, or each client's own for methods without one; w_k,E is where its local work ended.
    It keeps C updates until the round is over; a random projection keeps `size` numbers of each, with a
    standard error of a cosine of at most sqrt(2 / size).

    Args:
        size: numbers kept of an update; all of them if None. Static.
        seed: of the projection.

    Returns:
        A `Measure` with values "cosines" float [C, C], NaN for clients that are absent or did not move; "mean"
        off the diagonal, scalar; "eigenvalues" float [C], descending, NaN at the end, see `alignment`.

    Raises:
        TypeError, ValueError: `size` is not a whole number of at least 1.
    """
    if size is not None:
        size = positive_int("size", size, remedy="None keeps updates as they are")
    return UpdateCosines(keys.seed(jax.random.key(positive_int("seed", seed, least=0))), size)
