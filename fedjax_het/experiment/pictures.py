"""The pictures of a comparison, as PNG files in its folder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het import plots
from fedjax_het.federation import Federation
from fedjax_het.plots.truth import clusters_of

if TYPE_CHECKING:
    from fedjax_het.experiment.results import Comparison, Line

__all__ = ["draw"]

TASKS = 1000
"""Tasks whose relationship can still be read off a picture."""


def draw(result: Comparison, federation: Federation, folder: Path) -> list[Path]:
    """Draw whatever the comparison has something to show for.

    Args:
        result: the comparison.
        federation: whom it trained.
        folder: where the files go; files of these names are replaced.

    Returns:
        The files written: {metric}_by_round, loss_by_round, {metric}_by_bytes, {metric}_by_seconds, clients,
        gain_over_fedavg, gain_over_local_only, gain_by_size, dissimilarity, drift, label_distribution,
        client_sizes; and of what a method learned under its first seed clusters_METHOD, similarity_METHOD,
        tasks_METHOD, mixture_METHOD.
    """
    histories, metric = result.histories, result.metric
    some = next(iter(histories.values()))
    free = [line.name for line in result.lines if not line.bytes_down.any() and not line.bytes_up.any()]
    pictures: dict[str, Callable[[], Any]] = {}
    if any(f"global/{metric}" in history for history in histories.values()):
        pictures[f"{metric}_by_round"] = lambda: plots.metric_by_round(histories, metric)
        pictures[f"{metric}_by_bytes"] = lambda: plots.metric_by_bytes(histories, metric, free=free)
        pictures[f"{metric}_by_seconds"] = lambda: plots.metric_by_seconds(histories, metric)
    pictures[f"own_{metric}_by_round"] = lambda: plots.metric_by_round(histories, metric, "personal")
    if metric != "loss":
        pictures["loss_by_round"] = lambda: plots.metric_by_round(histories, "loss", "personal")
    clients = {name: history for name, history in histories.items() if _scores_clients(history, federation)}
    if clients:
        pictures["clients"] = lambda: plots.client_distribution(clients, metric)
    for base in ("fedavg", "local_only"):
        if base in clients and len(clients) > 1:
            others = {name: history for name, history in clients.items() if name != base}
            draw_gain = functools.partial(plots.client_gain, metric=metric, against=base)
            pictures[f"gain_over_{base}"] = functools.partial(draw_gain, others, clients[base])
    if "local_only" in clients and len(clients) > 1:
        others = {name: history for name, history in clients.items() if name != "local_only"}
        pictures["gain_by_size"] = lambda: plots.gain_by_size(
            others, clients["local_only"], federation, metric=metric, against="local_only"
        )
    for line in result.lines:
        pictures |= _learned(line, federation)
    if "measure/dissimilarity/G2" in some:
        pictures["dissimilarity"] = lambda: plots.dissimilarity_by_round(histories)
    if "measure/drift/drift" in some:
        pictures["drift"] = lambda: plots.drift_by_round(histories)
    if federation.spec.pool.task == "classification":
        pictures["label_distribution"] = lambda: plots.label_distribution(federation)
    pictures["client_sizes"] = lambda: plots.client_sizes(federation)
    return [plots.save(picture(), folder / f"{name}.png") for name, picture in pictures.items()]


def _learned(line: Line, federation: Federation) -> dict[str, Callable[[], Any]]:
    """What one method learned of how clients are related."""
    found, truth = line.learned, clusters_of(federation)
    pictures: dict[str, Callable[[], Any]] = {}
    if "cluster" in found and "info/cluster" in line.history:
        pictures["clusters"] = lambda: plots.cluster_assignment(line.history, truth, final=found["cluster"])
    if "similarity" in found:
        pictures["similarity"] = lambda: plots.similarity_map(
            found["similarity"], found["cluster"], truth=truth
        )
    if "relation" in found and len(found["relation"]) <= TASKS:
        pictures["tasks"] = lambda: plots.task_relationship(found["relation"])
    if "mixture" in found:
        star = np.asarray(federation.truth.get("mixture", ()))
        known = star if star.shape[:1] == found["mixture"].shape[:1] and star.ndim == 2 else None
        pictures["mixture"] = lambda: plots.mixture_weights(found["mixture"], known)
    return {f"{name}_{line.name}": picture for name, picture in pictures.items()}


def _scores_clients(history: Any, federation: Federation) -> bool:
    """Whether the history's clients are the federation's: pooled training has but one."""
    return history["client"].shape[-1] > 1 or federation.num_clients == 1
