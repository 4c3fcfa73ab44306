"""Notices: what a person should know while a run goes on."""

from __future__ import annotations

import numpy as np

from fedjax_het.engine.history import History

__all__ = ["left_behind"]

GAP = 0.2
"""How far below the median a client's accuracy must lie to be called much worse."""

DEVIATIONS = 3.0
"""And by how many standard deviations: of the clients' own spread and of the chance in its few rows."""

NAMED = 5
"""Clients named at most."""


def left_behind(piece: History) -> str | None:
    """What to say if some clients do much worse than the rest at the (one) evaluation in `piece`, else None.

    A client is much worse if its own model's accuracy lies at least `GAP` and `DEVIATIONS` standard deviations
    below the median client's. The deviation adds the robust spread of the clients (1.4826 times the median
    absolute deviation) and the binomial one of the client's rows, so that a client with three test rows and
    bad luck is not called out.
    """
    if "personal/accuracy" not in piece:
        return None
    accuracy, rows = piece["personal/accuracy"][-1], piece["rows"][-1]
    held = rows > 0
    if held.sum() < 5:
        return None
    median = float(np.median(accuracy[held]))
    robust = 1.4826 * float(np.median(np.abs(accuracy[held] - median)))
    chance = np.sqrt(max(median * (1 - median), 0.01) / np.maximum(rows, 1))
    gap = median - np.where(held, accuracy, median)
    worse = np.flatnonzero(gap > np.maximum(GAP, DEVIATIONS * np.hypot(robust, chance)))
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
