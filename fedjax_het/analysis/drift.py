"""Client drift over rounds: how far local work ends from where it began, of whole models and by layer."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_het import tree
from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.problem import Model
from fedjax_het.typing import Array, PyTree

__all__ = ["ClientDrift", "LayerDrift", "client_drift", "layer_drift"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClientDrift:
    """See `client_drift`."""

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember."""
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: omega, omega d, omega d^2. Each: d.

        Raises:
            TypeError: see `client_drift`.
        """
        squared = tree.sum_of_squares(_moved(algorithm, server, client, report))
        distance = jnp.sqrt(squared)
        return tree.scale(client.weight, (jnp.ones_like(squared), distance, squared)), distance

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """The means over the cohort and every client's own."""
        weight, distance, squared = total
        values = {
            "drift": _mean(distance, weight),
            "drift_squared": _mean(squared, weight),
            "by_client": jnp.where(cohort.present, each, jnp.nan),
        }
        return values, carry


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerDrift:
    """See `layer_drift`."""

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """Nothing to remember."""
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """Total: omega, and omega |moved|^2 of each array. Each: nothing.

        Raises:
            TypeError: see `client_drift`.
        """
        moved = jax.tree_util.tree_leaves_with_path(_moved(algorithm, server, client, report))
        squared = {
            jax.tree_util.keystr(path, simple=True, separator="/"): client.weight * tree.sum_of_squares(leaf)
            for path, leaf in moved
        }
        return (client.weight, squared), ()

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """The root mean square over the cohort of each array."""
        weight, squared = total
        return {name: jnp.sqrt(_mean(value, weight)) for name, value in squared.items()}, carry


def client_drift() -> ClientDrift:
    """d_k = |y_k - w|: how far local work of client k ends from the model that it began at.

    w is the consensus model, or the client's own model for methods without one; y_k is what the report says
    that local work ended at. One number a round tells how drift falls as training goes on (`drift_growth`),
    not how it grows with the local steps: for that, see `local_path`.

    Returns:
        A `Measure` for rounds, with values "drift" = sum_k omega_k d_k / sum_k omega_k and "drift_squared", the
        same mean of d_k^2, scalars over the cohort's weights, nan without a cohort; and "by_client" d_k float
        [C], nan where absent. Units: the parameters'. `fedjax_het.plots.drift_by_round` draws "drift".

        Its `client` raises TypeError in a survey, where nobody works, and of methods whose report does not hold
        the model of local work.

    Reference:
        Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, section 3 (client drift).
    """
    return ClientDrift()


def layer_drift() -> LayerDrift:
    """The drift of every array of the parameters: (sum_k omega_k |y_k - w|^2 / sum_k omega_k)^(1/2) over it.

    Their squares add up to "drift_squared" of `client_drift`.

    Returns:
        A `Measure` for rounds with one scalar an array, named by its path such as "dense_0/kernel"; in the
        unit of the parameters. It raises what `client_drift` raises.
    """
    return LayerDrift()


def _moved(algorithm: Any, server: PyTree, client: Client, report: Report | None) -> PyTree:
    """y_k - w, a tree like the parameters."""
    if report is None or not isinstance(report.local, Model):
        raise TypeError(
            "report must hold the model that local work ended at, got none: measure drift in a round, of a "
            "method whose Report has `local`; in a survey, use local_path"
        )
    model = algorithm.consensus(server)
    start = algorithm.personalise(server, client) if model is None else model
    before, after = (jax.tree.structure(getattr(m, "params", m)) for m in (start, report.local))
    if before != after:
        raise TypeError(
            f"algorithm must have one model a client, like the one local work ends at, got {before} and "
            f"{after}: the drift of {type(algorithm).__name__} has no meaning"
        )
    return tree.subtract(report.local.params, start.params)


def _mean(total: Array, weight: Array) -> Array:
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), jnp.nan)
