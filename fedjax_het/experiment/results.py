"""What a comparison came to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fedjax_het.engine import History
from fedjax_het.experiment.statistics import LEAST, differences
from fedjax_het.experiment.tuning import Tuned
from fedjax_het.metrics import fairness, low_is_good

__all__ = ["Comparison", "Line", "metric_of"]


@dataclasses.dataclass(frozen=True)
class Line:
    """One method's results; arrays have one entry a seed.

    Attributes:
        name: the method's label.
        union: the metric of the global model over the union of all clients' rows; None without a global model.
        clients: the metric of each client's own model, [seeds, N]; see `Comparison.about_clients`.
        bytes_down: all clients and rounds together, [seeds]; 0 for centralised training, which sends no models.
        bytes_up: likewise.
        steps: gradient steps of all clients together, [seeds].
        seconds: of computing, for all seeds, compilation included.
        history: all that was recorded, with a leading dimension "seed".
        tuned: what tuning chose; None if it was not tuned.
    """

    name: str
    union: np.ndarray | None
    clients: np.ndarray
    bytes_down: np.ndarray
    bytes_up: np.ndarray
    steps: np.ndarray
    seconds: float
    history: History
    tuned: Tuned | None = None

    @property
    def mean(self) -> np.ndarray:
        """Mean over clients, [seeds]."""
        return fairness.mean(self.clients, ~np.isnan(self.clients))

    def worst(self, metric: str) -> np.ndarray:
        """Mean over the worst tenth of clients, [seeds]."""
        held = ~np.isnan(self.clients)
        return fairness.worst_decile(self.clients, held, low_is_good=low_is_good(metric))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Every method's line, and the protocol in words.

    Attributes:
        lines: in the order asked for.
        metric: what `union` and `clients` hold.
        protocol: who was trained how, and whether rates were tuned.
        about_clients: how a client's own model was judged.
        folder: where it is kept, or None.
    """

    lines: tuple[Line, ...]
    metric: str
    protocol: str
    about_clients: str
    folder: Path | None = None

    @property
    def histories(self) -> dict[str, History]:
        """By label, as the functions of `fh.plots` take them."""
        return {line.name: line.history for line in self.lines}

    def differences(self, reference: str | None = None) -> str:
        """The paired differences of mean client values to one method (default: the first), as a table.

        Raises:
            ValueError: fewer than 5 seeds; no such method.
        """
        reference = self.lines[0].name if reference is None else reference
        return differences({line.name: line.mean for line in self.lines}, reference)

    @property
    def enough_seeds(self) -> bool:
        """Whether there are seeds enough for `differences`."""
        return len(self.lines[0].mean) >= LEAST


def metric_of(history: History) -> str:
    """Accuracy where there is one, else RMSE, else the loss."""
    return next((name for name in ("accuracy", "rmse") if f"personal/{name}" in history), "loss")
