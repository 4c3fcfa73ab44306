"""Curves of several methods: a metric by round, by bytes and by seconds; dissimilarity and drift by round."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedjax_het.check import known, positive_int, require
from fedjax_het.engine import History
from fedjax_het.plots.lines import Curve, draw
from fedjax_het.plots.series import WHO, Metric, by_evaluation, by_seed, evaluated_at, metric_of, named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "dissimilarity_by_round",
    "drift_by_round",
    "metric_by_bytes",
    "metric_by_round",
    "metric_by_seconds",
]

BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
TIMES = ((3 * 3600.0, 3600.0, "hours"), (600.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))

VALUES = {
    "G2": "G², gradient dissimilarity ((loss / parameter)²)",
    "B2": "B² = 1 + G² / |mean gradient|² (no unit)",
    "mean_gradient_squared": "|mean gradient|² ((loss / parameter)²)",
}
"""What `gradient_dissimilarity` measures."""


def metric_by_round(
    histories: History | Mapping[str, History],
    metric: str = "accuracy",
    who: str = "global",
    *,
    split: str = "test",
) -> Figure:
    """A metric after every evaluated round, the mean over seeds with a band of their spread.

    Args:
        histories: by method name; `fh.stack` runs of several seeds. The order of the names gives the looks.
        metric: such as "accuracy", "loss", "rmse".
        who: "global", "shared", "personal" or "local"; what is kept by client is averaged over clients.
        split: "test" or "valid".

    Returns:
        A matplotlib Figure. The legend lists the last values from high to low; a method without such a model
        has a dash there.

    Raises:
        TypeError: something that is no History.
        ValueError: nothing was evaluated, or no history has this metric; the message says which there are.
    """
    histories = named(histories)
    values = by_evaluation(histories, metric, who, split)
    found = {n: None if y is None else Curve(evaluated_at(histories[n]), y) for n, y in values.items()}
    return draw(found, metric_of(metric), x_label="rounds done", title="by round", about=WHO[who])


def metric_by_bytes(
    histories: History | Mapping[str, History],
    metric: str = "accuracy",
    who: str = "global",
    *,
    split: str = "test",
    free: Collection[str] = (),
) -> Figure:
    """A metric against the bytes moved so far, down and up, all clients together; see `metric_by_round`.

    Args:
        histories: by method name.
        metric: such as "accuracy".
        who: "global", "shared", "personal" or "local".
        split: "test" or "valid".
        free: methods that move no models although their history counts them: centralised training.
    """
    histories = named(histories)
    for name in free:
        known("free", name, histories)
    moved = {
        name: _so_far(history, by_seed(history, "bytes_down") + by_seed(history, "bytes_up"))
        * (name not in free)
        for name, history in histories.items()
    }
    unit, word = next(u for u in BYTES if max(float(x[-1]) for x in moved.values()) >= u[0] or u[0] == 1.0)
    values = by_evaluation(histories, metric, who, split)
    found = {n: None if y is None else Curve(moved[n] / unit, y) for n, y in values.items()}
    return draw(
        found,
        metric_of(metric),
        x_label=f"sent down and up, all clients ({word})",
        title="by traffic",
        about=WHO[who],
    )


def metric_by_seconds(
    histories: History | Mapping[str, History],
    metric: str = "accuracy",
    who: str = "global",
    *,
    split: str = "test",
    compilation: bool = False,
) -> Figure:
    """A metric against the wall-clock time of a run; see `metric_by_round`.

    Args:
        histories: by method name.
        metric: such as "accuracy".
        who: "global", "shared", "personal" or "local".
        split: "test" or "valid".
        compilation: whether the time of compilation counts. If not, the first block of rounds is given the
            pace of the later ones; where there is no later one, its time stays as it is.
    """
    histories = named(histories)
    passed = {name: _elapsed(history, compilation) for name, history in histories.items()}
    longest = max(float(x[-1]) for x in passed.values())
    _, unit, word = next(t for t in TIMES if longest >= t[0])
    values = by_evaluation(histories, metric, who, split)
    found = {n: None if y is None else Curve(passed[n] / unit, y) for n, y in values.items()}
    return draw(
        found,
        metric_of(metric),
        x_label=f"wall-clock {word} of a run",
        title="by time",
        about=WHO[who],
        note="Times: means over seeds"
        + (", compilation included." if compilation else ", without compilation."),
    )


def dissimilarity_by_round(
    histories: History | Mapping[str, History], value: str = "G2", *, smooth: int | None = None
) -> Figure:
    """How much the clients' gradients disagree, round by round, as `fh.analysis.gradient_dissimilarity` saw it.

    Args:
        histories: by method name, of runs with that measure (under any name).
        value: "G2", "B2" or "mean_gradient_squared".
        smooth: rounds of a running mean, since every round has another cohort; default a 25th of the run.

    Raises:
        ValueError: no history has the measure; the message says what to pass to `simulate`.
    """
    known("value", value, VALUES)
    histories = named(histories)
    measured = {name: _measured(history, value) for name, history in histories.items()}
    require(
        any(name is not None for name in measured.values()),
        f"histories must hold measure/NAME/{value}, got none in {', '.join(histories)}: pass "
        "measures={'dissimilarity': fh.analysis.gradient_dissimilarity()} to simulate",
    )
    found = {n: None if v is None else by_seed(histories[n], v) for n, v in measured.items()}
    return _rounds(histories, found, Metric("gradient dissimilarity", VALUES[value], False, True), smooth)


def drift_by_round(histories: History | Mapping[str, History], *, smooth: int | None = None) -> Figure:
    """How far local work moves the clients' models away, the mean over each round's cohort.

    Args:
        histories: by method name, with info/drift (what clients report) or a measure's scalar called "drift".
        smooth: rounds of a running mean, since every round has another cohort; default a 25th of the run.

    Raises:
        ValueError: no history has a drift; the message says what to pass to `simulate`.
    """
    histories = named(histories)
    found = {name: _drift(history) for name, history in histories.items()}
    require(
        any(y is not None for y in found.values()),
        f"histories must hold info/drift or measure/NAME/drift, got neither in {', '.join(histories)}: pass to "
        "simulate measures={'drift': fh.analysis.client_drift()}",
    )
    metric = Metric("drift of local models", "drift (unit of the parameters)", False, True)
    return _rounds(histories, found, metric, smooth)


def _so_far(history: History, amount: np.ndarray) -> np.ndarray:
    """Sum of a (seed, round) amount up to each evaluation, [E], mean over seeds."""
    total = np.concatenate([np.zeros((len(amount), 1)), np.cumsum(amount, axis=1, dtype=float)], axis=1)
    return total[:, _place(history)].mean(axis=0)


def _place(history: History) -> np.ndarray:
    """How many of the History's rounds lie before each evaluation, [E]."""
    return np.searchsorted(by_seed(history, "round")[0], evaluated_at(history), side="left")


def _elapsed(history: History, compilation: bool) -> np.ndarray:
    """Seconds at each evaluation, [E], mean over seeds."""
    seconds = by_seed(history, "seconds").astype(float)
    first = seconds == seconds[:, :1]
    later = (~first).sum(axis=1, keepdims=True)
    if not compilation and later.all():
        pace = (seconds[:, -1:] - seconds[:, :1]) / later
        seconds = seconds - seconds[:, :1] + pace * first.sum(axis=1, keepdims=True)
    return _so_far(history, np.diff(seconds, axis=1, prepend=0.0))


def _measured(history: History, value: str) -> str | None:
    """The name of a measure's scalar in a History."""
    seeds = "seed" in history.dims("round") if "round" in history else False
    dims = ("seed", "round") if seeds else ("round",)
    names = (n for n in history if n.startswith("measure/") and n.endswith(f"/{value}"))
    return next((name for name in names if history.dims(name) == dims), None)


def _drift(history: History) -> np.ndarray | None:
    if "info/drift" in history:
        took_part = by_seed(history, "present") & ~by_seed(history, "lost")
        count = took_part.sum(axis=-1)
        total = np.where(took_part, by_seed(history, "info/drift"), 0).sum(axis=-1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
    name = _measured(history, "drift")
    return None if name is None else by_seed(history, name)


def _rounds(
    histories: dict[str, History],
    found: dict[str, np.ndarray | None],
    metric: Metric,
    smooth: int | None,
) -> Figure:
    """Curves with one value a round, smoothed."""
    longest = max(y.shape[-1] for y in found.values() if y is not None)
    window = (
        max(1, longest // 25)
        if smooth is None
        else positive_int("smooth", smooth, remedy="1 shows every round")
    )
    curves = {}
    for name, y in found.items():
        if y is None:
            curves[name] = None
            continue
        many = min(window, y.shape[-1])
        rounds = by_seed(histories[name], "round")[0] + 1.0
        curves[name] = Curve(_running(rounds[None], many)[0], _running(y.astype(float), many))
    note = f"Running mean over {window} rounds." if window > 1 else ""
    return draw(curves, metric, x_label="round", title="by round", about="each round's cohort", note=note)


def _running(y: np.ndarray, window: int) -> np.ndarray:
    """Means over `window` neighbours in the last axis [S, P] -> [S, P - window + 1]."""
    return np.lib.stride_tricks.sliding_window_view(y, window, axis=-1).mean(axis=-1)
