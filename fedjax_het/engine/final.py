"""What a run came to: last, best by validation, and over its final window, which must not be confused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.engine.history import History
from fedjax_het.metrics import low_is_good

__all__ = ["Final", "final"]


class Final(NamedTuple):
    """What a run came to, three ways that must not be confused; leading axis "seed" if the runs have one.

    Attributes:
        last: at the last evaluation.
        best: at the evaluation that validation rows prefer, the earliest of equals; None without validation
            rows, NaN where they say nothing.
        best_at: rounds done there; None without validation rows, -1 where they say nothing.
        window: the mean of the last evaluations, as many as asked.
        window_sd: their standard deviation.
    """

    last: np.ndarray
    best: np.ndarray | None
    best_at: np.ndarray | None
    window: np.ndarray
    window_sd: np.ndarray


def final(history: History, name: str, *, window: int = 5, by: str | None = None) -> Final:
    """Last, best by validation, and final-window values of an evaluated metric.

    Args:
        history: a run, or stacked runs.
        name: of dims (evaluation) or (evaluation, client), such as "global/accuracy"; of the latter, the mean
            over clients.
        window: evaluations of the final window; fewer if there were fewer.
        by: which variable chooses; default "valid/" and the name, if it was recorded. Test rows never choose:
            the best of many looks at them is too good to be true.

    Raises:
        KeyError: no such variable.
        ValueError: a window below 1; a variable that chooses on test rows.
    """
    window = positive_int("window", window, remedy="it counts evaluations")
    chooser = f"valid/{name}" if by is None else by
    require(
        chooser.startswith("valid/"),
        f"by must be a variable of validation rows, got {by!r}: choose one that begins with 'valid/'",
    )
    values = history.by_evaluation(name)
    tail = values[..., -window:]
    best = best_at = None
    if chooser in history or by is not None:
        score = history.by_evaluation(chooser)
        score = np.where(np.isnan(score), np.inf, score if low_is_good(chooser) else -score)
        at = np.argmin(score, axis=-1)[..., None]
        silent = np.isposinf(score).all(axis=-1)
        best = np.where(silent, np.nan, np.take_along_axis(values, at, -1)[..., 0])
        best_at = np.where(silent, -1, np.take_along_axis(history["evaluated_at"], at, -1)[..., 0])
    return Final(values[..., -1], best, best_at, tail.mean(-1), tail.std(-1))
