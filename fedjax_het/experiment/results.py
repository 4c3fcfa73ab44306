"""What a comparison came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedjax_het.engine import History
from fedjax_het.engine.nonfinite import NonFiniteError
from fedjax_het.experiment.statistics import LEAST, differences
from fedjax_het.experiment.tuning import Tuned
from fedjax_het.metrics import fairness, low_is_good
from fedjax_het.metrics.gain import gain

__all__ = ["PERCENT", "Comparison", "Diverged", "Line", "metric_of"]

PERCENT = ("accuracy",)
"""Metrics shown in percent."""


ALONE = "local_only"
"""Label of what a client can have without the others."""


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
        everyone: whether every client took part in every round, which the method demands, although the study
            draws fewer.
        others: the other metrics asked for -> that metric of each client's own model, [seeds, N].
        learned: what the first seed's run learned of how clients are related, see `learned.learned`.
        agreement: how far every seed's clusters and mixtures are the true ones, name -> [seeds]; see
            `learned.agreement`.
        phases: what change cost the clients, name -> [seeds, phases]; see `learned.over_phases`.
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
    everyone: bool = False
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    learned: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    agreement: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    phases: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def mean(self) -> np.ndarray:
        """Mean over clients, [seeds]."""
        return fairness.mean(self.clients, ~np.isnan(self.clients))

    def worst(self, metric: str) -> np.ndarray:
        """Mean over the worst tenth of clients, [seeds]."""
        return self.spread(metric)["worst decile"]

    def spread(self, metric: str) -> dict[str, np.ndarray]:
        """How evenly a metric is spread over clients that count alike, by name, [seeds] each.

        See `fedjax_het.metrics.fairness`; the variance of what is shown in percent is in percent squared.

        Args:
            metric: the one that `clients` holds, or one of `others`.
        """
        values = self.others.get(metric, self.clients)
        held = ~np.isnan(values)
        found = fairness.spread(values, held, low_is_good=low_is_good(metric))
        return found | {"variance": fairness.variance(values, held, percent=metric in PERCENT)}


@dataclasses.dataclass(frozen=True)
class Diverged:
    """A method that ended in NaN or infinity, and so has no line. `str()` says where.

    Attributes:
        name: the method's label.
        seed: of the run; None if no candidate of its tuning stayed finite.
        round: of that run; None as above.
        client: the first whose upload was not finite; None if it was the server's step, or as above.
        leaf: the first leaf of that upload that was not finite; None where `client` is.
        error: what was raised; that of a run has the states to replay it from.
    """

    name: str
    error: Exception = dataclasses.field(compare=False, repr=False)
    seed: int | None = None
    round: int | None = None
    client: int | None = None
    leaf: str | None = None

    @classmethod
    def of(cls, name: str, seed: int, error: NonFiniteError) -> Diverged:
        """From what a run raised."""
        return cls(name, error, seed, error.round, error.client, error.leaf)

    def __str__(self) -> str:
        if self.seed is None:
            return f"{self.name} diverged with every candidate of its tuning"
        who = "server" if self.client is None else f"client {self.client}, {self.leaf}"
        return f"{self.name} diverged in round {self.round} ({who}), seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Every method's line, and the protocol in words.

    Attributes:
        lines: in the order asked for, at least one.
        metric: what `union` and `clients` hold.
        protocol: who was trained how, and whether rates were tuned.
        about_clients: how a client's own model was judged.
        folder: where it is kept, or None.
        diverged: the methods that are no line because they diverged.
        left_out: label -> why a method that a family brought does not fit the study.
    """

    lines: tuple[Line, ...]
    metric: str
    protocol: str
    about_clients: str
    folder: Path | None = None
    diverged: tuple[Diverged, ...] = ()
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def histories(self) -> dict[str, History]:
        """By label, as the functions of `fh.plots` take them."""
        return {line.name: line.history for line in self.lines}

    @property
    def alone(self) -> Line | None:
        """The line of local training alone, which the others gain over; None if it is no line."""
        return next((line for line in self.lines if line.name == ALONE), None)

    def gains(self, line: Line) -> np.ndarray | None:
        """What each client gains by a method over training alone, [seeds, N]; None without such a line.

        Above 0 where the method is better, also where less of the metric is; NaN where a client has no rows.
        """
        alone = self.alone
        if alone is None or alone is line:
            return None
        return gain(line.clients, alone.clients, low_is_good=low_is_good(self.metric))

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
