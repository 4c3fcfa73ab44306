"""What a picture takes from a History: values by seed and evaluation, values by client, names and units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from fedjax_het.check import known, require, short
from fedjax_het.engine import History
from fedjax_het.metrics import fairness
from fedjax_het.metrics.metric import low_is_good

__all__ = [
    "WHO",
    "Metric",
    "by_client",
    "by_evaluation",
    "by_seed",
    "evaluated_at",
    "metric_of",
    "named",
]

WHO = {
    "global": "the global model on all clients' rows",
    "shared": "the global model on each client's rows, mean over clients",
    "local": "each client's model after a round of local work, mean over clients",
    "personal": "each client's own model on its rows, mean over clients",
}
"""Whose model a metric is about."""

SPLITS = {"test": "", "valid": "valid/"}
"""Where a History keeps the evaluations of a split."""

UNDEFINED = ("auc", "balanced_accuracy", "r2")
"""Metrics that some clients have no value of: those who hold one class only, or one row."""

LABELS = {
    "accuracy": "accuracy (% of rows)",
    "balanced_accuracy": "balanced accuracy (%, mean over classes)",
    "auc": "AUC (1: perfect, 0.5: chance)",
    "loss": "loss (mean per row)",
    "squared_error": "squared error (unit of y, squared)",
    "rmse": "RMSE (unit of y)",
    "r2": "R² (1: perfect, 0: the mean)",
    "perplexity": "perplexity (per token)",
}


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        name: as in a History.
        label: with its unit.
        percent: whether 1 is shown as 100 %.
        lower: whether less is better.
    """

    name: str
    label: str
    percent: bool
    lower: bool

    def text(self, value: float) -> str:
        """A value in few digits."""
        return f"{100 * value:.1f} %" if self.percent else f"{value:#.3g}".rstrip(".")

    @property
    def words(self) -> str:
        """The name, to begin a title with."""
        words = {"auc": "AUC", "rmse": "RMSE", "r2": "R²"}.get(self.name, self.name.replace("_", " "))
        return f"{words[0].upper()}{words[1:]}"


def metric_of(name: str) -> Metric:
    """The metric called `name`; of one that is not known here, the name is the label."""
    label = LABELS.get(name, name.replace("_", " "))
    return Metric(name, label, name.endswith("accuracy"), low_is_good(name))


def named(histories: History | Mapping[str, History]) -> dict[str, History]:
    """Method name -> History; a History alone is called "run".

    Raises:
        TypeError: something else.
        ValueError: no History at all.
    """
    if isinstance(histories, History):
        return {"run": histories}
    remedy = "pass what simulate or stack returned, as {'fedavg': history}"
    if not isinstance(histories, Mapping):
        raise TypeError(
            f"histories must be a History or a dict of them by name, got {short(histories)}: {remedy}"
        )
    require(len(histories) > 0, f"histories must hold at least one History, got none: {remedy}")
    for name, history in histories.items():
        if not isinstance(history, History):
            raise TypeError(f"histories[{name!r}] must be a History, got {short(history)}: {remedy}")
    return {str(name): history for name, history in histories.items()}


def by_seed(history: History, name: str) -> np.ndarray:
    """A variable with its leading axis "seed", of length 1 for a single run."""
    values = history[name]
    return values if history.dims(name)[0] == "seed" else values[None]


def evaluated_at(history: History) -> np.ndarray:
    """Rounds done at each evaluation, int [E].

    Raises:
        ValueError: nothing was evaluated, or seed by seed at different rounds.
    """
    require(
        "evaluated_at" in history,
        "histories must hold evaluations, got a History without one: pass every= to simulate",
    )
    rounds = by_seed(history, "evaluated_at")
    require(
        bool((rounds == rounds[0]).all()),
        f"seeds must be evaluated at the same rounds, got {short(rounds.tolist())}: stack runs of one setting",
    )
    return rounds[0]


def find(histories: Mapping[str, History], metric: str, who: str, split: str) -> str:
    """The variable that holds a metric in those histories that have it.

    Raises:
        ValueError: unknown words, or no history has it; the message says which metrics there are.
    """
    known("who", who, WHO)
    known("split", split, SPLITS)
    for history in histories.values():
        evaluated_at(history)
    prefix = f"{SPLITS[split]}{who}/"
    held = {
        name.removeprefix(prefix): None for h in histories.values() for name in h if name.startswith(prefix)
    }
    require(
        len(held) > 0,
        f"histories must hold {prefix}{metric}, got no {prefix}METRIC in {', '.join(histories)}: choose "
        f"another who= ({', '.join(WHO)}) or split=, or ask simulate to evaluate it",
    )
    return prefix + known("metric", metric, held)


def _counts(history: History, name: str) -> np.ndarray:
    """Which clients count in a (seed, evaluation, client) variable, bool: those who hold rows."""
    rows = "valid/rows" if name.startswith("valid/") else "rows"
    held = by_seed(history, rows) > 0
    if name.endswith(UNDEFINED):
        held = held & ~np.isnan(by_seed(history, name))
    return held


def by_evaluation(
    histories: Mapping[str, History], metric: str, who: str, split: str = "test"
) -> dict[str, np.ndarray | None]:
    """A metric of every history, float [seeds, E]; None for a method without it, such as a global model.

    Args:
        histories: by method name.
        metric: such as "accuracy".
        who: a key of `WHO`; what is kept by client is averaged over the clients that hold rows.
        split: "test" or "valid".

    Raises:
        ValueError: nothing was evaluated, or no history has this metric.
    """
    name = find(histories, metric, who, split)
    found: dict[str, np.ndarray | None] = {}
    for method, history in histories.items():
        if name not in history:
            found[method] = None
        elif who == "global":
            found[method] = by_seed(history, name)
        else:
            found[method] = fairness.mean(by_seed(history, name), _counts(history, name))
    return found


def by_client(
    histories: Mapping[str, History], metric: str, who: str, split: str = "test"
) -> dict[str, tuple[np.ndarray, np.ndarray] | None]:
    """(client ids, values) at the last evaluation, each client's mean over seeds; None without such a model.

    Clients without rows are left out. Where a sample of clients is scored, a client's mean is over the seeds
    that scored it.

    Raises:
        ValueError: nothing was evaluated, or no history has this metric.
    """
    require(
        who != "global",
        "who must be 'personal', 'local' or 'shared', got 'global': it is scored on all clients' rows together",
    )
    name = find(histories, metric, who, split)
    found: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}
    for method, history in histories.items():
        if name not in history:
            found[method] = None
            continue
        values, counts = by_seed(history, name)[:, -1], _counts(history, name)[:, -1]
        everyone = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
        ids = by_seed(history, "client")[:, -1] if "client" in history else everyone
        client, place = np.unique(ids[counts], return_inverse=True)
        total = np.bincount(place, values[counts].astype(float), minlength=len(client))
        found[method] = client, total / np.bincount(place, minlength=len(client))
    return found
