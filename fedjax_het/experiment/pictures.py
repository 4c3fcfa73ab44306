"""The pictures of a comparison, as PNG files in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_het import plots
from fedjax_het.federation import Federation

if TYPE_CHECKING:
    from fedjax_het.experiment.results import Comparison

__all__ = ["draw"]


def draw(result: Comparison, federation: Federation, folder: Path) -> list[Path]:
    """Draw whatever the comparison has something to show for.

    Args:
        result: the comparison.
        federation: whom it trained.
        folder: where the files go; files of these names are replaced.

    Returns:
        The files written: {metric}_by_round, loss_by_round, {metric}_by_bytes, {metric}_by_seconds, clients,
        gain_over_local_only, dissimilarity, label_distribution, client_sizes.
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
    if "local_only" in clients and len(clients) > 1:
        others = {name: history for name, history in clients.items() if name != "local_only"}
        pictures["gain_over_local_only"] = lambda: plots.client_gain(
            others, clients["local_only"], metric=metric, against="local_only"
        )
    if "measure/dissimilarity/G2" in some:
        pictures["dissimilarity"] = lambda: plots.dissimilarity_by_round(histories)
    if federation.spec.pool.task == "classification":
        pictures["label_distribution"] = lambda: plots.label_distribution(federation)
    pictures["client_sizes"] = lambda: plots.client_sizes(federation)
    return [plots.save(picture(), folder / f"{name}.png") for name, picture in pictures.items()]


def _scores_clients(history: Any, federation: Federation) -> bool:
    """Whether the history's clients are the federation's: pooled training has but one."""
    return history["client"].shape[-1] > 1 or federation.num_clients == 1
