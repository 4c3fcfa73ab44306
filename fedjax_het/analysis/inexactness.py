"""Inexactness: how well local work solved what each client was given to solve."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.problem import Model, full_gradient
from fedjax_het.typing import Array, PyTree

__all__ = ["Inexactness", "inexactness"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inexactness:
    """See `inexactness`."""

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember.

        Raises:
            TypeError: the algorithm does not say what its clients minimise.
        """
        if not callable(getattr(algorithm, "objective", None)):
            raise TypeError(
                f"algorithm must have an objective (problem, server, client) -> h_k, got "
                f"{type(algorithm).__name__}: inexactness is known for fedavg, fedprox and fednova"
            )
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: nothing. Each: gamma_k.

        Raises:
            TypeError: nobody worked, or the report does not say where local work ended.
        """
        if report is None or not isinstance(report.local, Model):
            raise TypeError(
                "report must hold the model that local work ended at, got none: measure inexactness in a "
                "round, of a method whose Report has `local`"
            )
        h = algorithm.objective(algorithm.problem, server, client)
        draw = jax.random.clone(keys.stream(client.key, "inexactness"))

        def slope(model: Model) -> Array:
            grads, _ = full_gradient(h, model, client.data, draw)
            return jnp.sqrt(tree.sum_of_squares(grads))

        before, after = slope(algorithm.personalise(server, client)), slope(report.local)
        ratio = after / jnp.where(before > 0, before, 1)
        return (), jnp.where(before > 0, ratio, jnp.where(after > 0, jnp.inf, 0))

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """gamma_k of those present, and the largest."""
        worst = jnp.max(jnp.where(cohort.present, each, -jnp.inf))
        values = {
            "gamma": jnp.where(cohort.present, each, jnp.nan),
            "worst": jnp.where(jnp.any(cohort.present), worst, jnp.nan),
        }
        return values, carry


def inexactness() -> Inexactness:
    """gamma_k = |grad h_k(y_k)| / |grad h_k(w)|: what is left of the gradient after local work from w to y_k.

    h_k is the algorithm's own objective of the client, FedProx's proximal term included, over all of its
    training rows. 0 is an exact solution, 1 no work; above 1 local work ended worse than it began. At a
    stationary w gamma_k is 0 if y_k is stationary too, else infinity. Two passes over the rows a client.

    Returns:
        A `Measure` with values "gamma" float [C], NaN where absent, and "worst", the largest of them, scalar;
        for algorithms with an `objective`: FedAvg, FedProx, FedNova and those made of them.

    Reference:
        Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, Definition 2.
    """
    return Inexactness()
