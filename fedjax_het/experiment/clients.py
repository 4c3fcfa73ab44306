"""How each client's own model is judged in a comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.engine import History, State, evaluate, executors, survey
from fedjax_het.engine.state import Seen
from fedjax_het.experiment.build import Study
from fedjax_het.federation import SPLITS, Federation, pool_rows
from fedjax_het.heterogeneity import label_counts
from fedjax_het.metrics import class_accuracy, reweighted_accuracy
from fedjax_het.typing import Array, PyTree

__all__ = ["by_client", "standing"]

_survey = jax.jit(survey, static_argnames=("executor",))
_evaluate = jax.jit(evaluate, static_argnames=("executor", "split"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _ByClass:
    """A measure: the accuracy by class of every client's own model on the same rows x [B, ...], y [B]."""

    x: Array
    y: Array

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        return ()

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        out = algorithm.predict(algorithm.personalise(server, client), self.x)
        return (), class_accuracy(out, self.y, out.shape[-1])

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        return {"accuracy": each}, carry


def standing(federation: Federation, metric: str) -> tuple[bool, str]:
    """(whether clients are judged on the common test rows, how in words).

    A client with 40 rows has a handful of test rows, which say little. Where clients differ in their label
    mixture alone, the common test rows, reweighted to the client's labels, estimate the same thing from all of
    them. Otherwise, and where the mixtures change over time, a client's own rows are all there is.
    """
    truth = federation.truth
    still = federation.spec.phases == 1 and not federation.transforms
    pure = (
        metric == "accuracy" and ("held" in truth or "proportions" in truth) and "group" not in truth and still
    )
    if pure:
        return True, "on the union of the test rows, reweighted to the client's labels"
    return False, "on the client's own test rows"


def _mixtures(federation: Federation) -> np.ndarray:
    """The labels that each client holds over all splits, float [N, K], rows adding up to 1 (0 without rows)."""
    count = np.sum([label_counts(federation, split=split) for split in SPLITS], axis=0)
    return count / np.maximum(count.sum(1, keepdims=True), 1)


def by_client(
    algorithm: Any, state: State, study: Study, history: History, metrics: Sequence[str]
) -> dict[str, np.ndarray]:
    """Metrics of each client's own model after the last round, [N] each; NaN where a client has no rows."""
    federation, split = study.federation, study.config.evaluation.split
    everyone = federation.num_clients
    many = state.seen.loss.shape[0]
    if many != everyone:  # centralised training saw one client: everybody is served by its model
        seen = Seen(jnp.zeros((everyone,), state.seen.loss.dtype), jnp.zeros((everyone,), jnp.int32))
        state = dataclasses.replace(state, seen=seen)
    found: dict[str, np.ndarray] = {}
    if any(standing(federation, metric)[0] for metric in metrics):
        rows = federation.rows(split).index[: int(federation.rows(split).size.sum())]
        x, y = pool_rows(federation.x, federation.y, federation.spec.pool.scale, rows)
        by_class = _survey(_ByClass(x, y), algorithm, state, federation)["accuracy"]
        found["accuracy"] = reweighted_accuracy(np.asarray(by_class), _mixtures(federation))
    rest = [metric for metric in metrics if metric not in found]
    if many == everyone == history["client"].shape[-1]:
        return found | {metric: np.asarray(history[f"personal/{metric}"][-1]) for metric in rest}
    if rest:
        scored = _evaluate(
            algorithm, state, federation, executor=executors.auto(), split=split, metrics=study.metrics
        )
        found |= {metric: np.asarray(scored.personal[metric]) for metric in rest}
    return found
