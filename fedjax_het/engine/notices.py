"""Notices: what a person should know while a run goes on."""

from __future__ import annotations

import numpy as np

from fedjax_het.engine.history import History

__all__ = ["left_behind"]

GAP = 0.2
"""How far below the median a client's accuracy must lie to be called much worse."""

DEVIATIONS = 2.0
"""And below the rest: by how many robust standard deviations the rest may lie under its own median."""

ALARMS = 0.01
"""And by more than chance: a bound on the share of evaluations at which bad luck alone names somebody."""

FEWEST = 5
"""Clients that can have a median worth the name."""

NAMED = 5
"""Clients named at most."""


def left_behind(piece: History) -> str | None:
    """What to say if some clients do much worse than the rest at the (one) evaluation in `piece`, else None.

    Of the clients that hold rows and took part in training, one is much worse if its own model's accuracy a

    - lies more than `GAP` below the median m, and below r, the smaller of the accuracy over all rows and
      m - `DEVIATIONS` * 1.4826 * the median absolute deviation: a level that most of the rest pass, and
    - is more than bad luck with its n rows: a client of true accuracy r does so badly with probability at
      most exp(-n KL(a || r)), which must be below `ALARMS` over the number of clients.

    Reference: Hoeffding, JASA 58, 1963, Theorem 1 (the bound).
    """
    if "personal/accuracy" not in piece:
        return None
    accuracy, rows = piece["personal/accuracy"][-1].astype(float), piece["rows"][-1]
    held = (rows > 0) & piece["trained"][-1]
    if held.sum() < FEWEST:
        return None
    median = float(np.median(accuracy[held]))
    spread = 1.4826 * float(np.median(np.abs(accuracy[held] - median)))
    rest = min(median - DEVIATIONS * spread, float(np.average(accuracy[held], weights=rows[held])))
    surprise = rows * np.where(held & (accuracy < rest), _divergence(accuracy, rest), 0)
    worse = np.flatnonzero((surprise > np.log(held.sum() / ALARMS)) & (median - accuracy > GAP))
    if not len(worse):
        return None
    order = worse[np.argsort(accuracy[worse], kind="stable")]
    ids = piece["client"][-1]
    named = ", ".join(f"{ids[place]} ({accuracy[place]:.2f})" for place in order[:NAMED])
    more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
    many = "1 client does" if len(order) == 1 else f"{len(order)} clients do"
    return (
        f"{many} much worse than the median accuracy of {median:.2f}: client {named}{more}. "
        "Their data may follow other labels or another concept: compare personal/accuracy with training alone, "
        "and try a personal or clustered method"
    )


def _divergence(a: np.ndarray, r: float) -> np.ndarray:
    """KL(a || r) of two coins, with r kept off 0 and 1."""
    r = min(max(r, 1e-3), 1 - 1e-3)
    a = np.clip(np.nan_to_num(a), 1e-12, 1 - 1e-12)
    return a * np.log(a / r) + (1 - a) * np.log((1 - a) / (1 - r))
