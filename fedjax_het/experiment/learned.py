"""What a method learned of how clients are related, read from its last state, and how far that is the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedjax_het.engine import History, State
from fedjax_het.experiment.values import Choice
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import sizes_of
from fedjax_het.metrics import clustering, low_is_good, temporal
from fedjax_het.plots.truth import clusters_of
from fedjax_het.similarity import cosines

__all__ = ["agreement", "learned", "over_phases"]


def learned(choice: Choice, state: State) -> dict[str, np.ndarray]:
    """What the method's last state says of its clients; nothing for most methods.

    Args:
        choice: of the method; a method that wraps another one is read as the one inside.
        state: after the last round.

    Returns:
        Of these whatever there is: "cluster" int [N], negative for a client in none; "similarity" float [N, N],
        cosines of the updates (CFL's are averages) that led to the first cut, NaN for who had no part in it;
        "relation" float [N, N], the covariance of tasks; "mixture" float [N, M], the weights of components.
    """
    inner = choice.options.get("of")
    if isinstance(inner, Choice):
        return learned(inner, state)
    return {name: np.asarray(value) for name, value in READ.get(choice.name, _nothing)(state).items()}


def agreement(found: Mapping[str, np.ndarray], federation: Federation) -> dict[str, float]:
    """How many clusters have members, and how far clusters and mixtures are those that the federation knows.

    Args:
        found: of `learned`.
        federation: whom it was learned from; clients without training rows do not count.

    Returns:
        Of these whatever can be said: "clusters", "adjusted_rand", "purity", "coverage", "mixture_distance"
        (the mean over clients of |pi - pi*|_1, components matched); see `fedjax_het.metrics.clustering`.
    """
    held = sizes_of(federation, split="train", phase=0) > 0
    told: dict[str, float] = {}
    if "cluster" in found:
        label, truth = found["cluster"], clusters_of(federation)
        told["clusters"] = float(len(np.unique(label[held & (label >= 0)])))
        if truth is not None:
            told["adjusted_rand"] = float(clustering.adjusted_rand(label, truth, held))
            told["purity"] = float(clustering.purity(label, truth, held))
            told["coverage"] = float(clustering.coverage(label, truth, held))
    star = np.asarray(federation.truth.get("mixture", ()))
    if "mixture" in found and star.shape[:1] == found["mixture"].shape[:1] and star.ndim == 2:
        distance = clustering.mixture_distance(found["mixture"], star, held)
        told["mixture_distance"] = float(np.nanmean(distance)) if held.any() else float("nan")
    return told


def over_phases(history: History, federation: Federation, metric: str, rounds: int) -> dict[str, np.ndarray]:
    """Forgetting, backward transfer and adaptation lag of clients that change, by name, float [..., T].

    Args:
        history: of a run, or of stacked ones: then [seeds, T].
        federation: of T phases.
        metric: of each client's own model.
        rounds: that were trained.

    Returns:
        See `fedjax_het.metrics.temporal.by_phase`; nothing for one phase, or where not everyone was scored at
        each evaluation.
    """
    values = history[f"personal/{metric}"]
    if federation.spec.phases == 1 or values.shape[-1] != federation.num_clients:
        return {}
    at = np.asarray(history["evaluated_at"])
    told = temporal.visits(federation.phase, rounds, phases=federation.spec.phases)
    at = at.reshape(-1, at.shape[-1])[0]  # stacked runs are evaluated after the same rounds
    return temporal.by_phase(values, at, told, low_is_good=low_is_good(metric))


def _nothing(state: State) -> dict[str, Any]:
    return {}


def _chosen(state: State) -> dict[str, Any]:
    """The model that each client last found to fit best."""
    return {"cluster": state.clients.cluster}


def _placed(state: State) -> dict[str, Any]:
    return {"cluster": state.server.label}


def _split(state: State) -> dict[str, Any]:
    """The clusters, and the cosines by which the first of them was cut."""
    splits = state.server.splits
    if int(splits.origin[0]) < 0:
        return _placed(state)
    similarity = np.array(cosines(splits.unit[0]))
    outside = np.asarray(splits.side[0]) < 0
    similarity[outside] = similarity[:, outside] = np.nan
    return {**_placed(state), "similarity": similarity}


def _related(state: State) -> dict[str, Any]:
    return {"relation": state.server.relation}


def _mixed(state: State) -> dict[str, Any]:
    return {"mixture": state.clients.weights}


READ: Mapping[str, Callable[[State], dict[str, Any]]] = {
    "ifca": _chosen,
    "cfl": _split,
    "cosine_cfl": _placed,
    "mocha": _related,
    "fedem": _mixed,
}
"""Method -> what its last state tells."""
