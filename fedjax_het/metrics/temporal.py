"""What a change of the clients' data costs: forgetting, backward transfer and adaptation lag, by phase.

Everywhere: T phases; a visit is a stretch of rounds in one phase, V of them, see `visits`; p(v) is the phase of
visit v. `values` float [..., E, N] is a metric of each client at E evaluations, NaN where it holds no rows,
such as history["personal/accuracy"]; `at` int [E] are the rounds done by then, history["evaluated_at"]. Each
time the same N clients must be scored, so not a sample. An evaluation after r rounds reads the rows of the
phase of round r - 1, as `fh.evaluate` does.

R[v, j, k] is the score of client k on the rows of phase j after visit v. A run scores the phase that it is in
and no other: `scores` takes from it what it tells. For all of R keep the states at the ends of visits, and
evaluate each in every phase.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.check import known, require, scalar, short
from fedjax_het.metrics.visits import Visits, visits

__all__ = ["Visits", "adaptation_lag", "backward_transfer", "by_phase", "forgetting", "scores", "visits"]

REFERENCES = ("before", "end")
"""What a client adapts to: the score before the change, or the one at the end of the visit."""


def scores(values: Any, at: Any, told: Visits) -> np.ndarray:
    """What a run's own evaluations tell of R, float [..., V, T, N]; NaN elsewhere.

    R[v, p(v)] is the last score of visit v, and R[v, p(v + 1)] the first one of visit v + 1. That one comes
    after some training there already, one round of it if every round is evaluated: it says that less was
    forgotten than was. So what was forgotten shows only where a phase comes again.

    Args:
        values: see above.
        at: see above.
        told: of `visits`.

    Raises:
        ValueError: shapes that do not fit, evaluations out of order or after the last visit.
    """
    values, at, place = _evaluations(values, at, told)
    count = len(told.phase)
    matrix = np.full((*values.shape[:-2], count, told.phases, values.shape[-1]), np.nan)
    for visit in range(count):
        # an evaluation before the first round says nothing of what the first visit taught
        after = np.flatnonzero((place == visit) & (at > 0))
        if len(after):
            matrix[..., visit, told.phase[visit], :] = values[..., after[-1], :]
        if len(after) and visit > 0:
            matrix[..., visit - 1, told.phase[visit], :] = values[..., after[0], :]
    return matrix


def forgetting(matrix: Any, told: Visits, *, low_is_good: bool = False) -> np.ndarray:
    """How far below its best earlier score each phase is: max_{u < v} R[u, j] - R[v, j], float [..., V, T, N].

    Above 0 where something was forgotten, whatever `low_is_good`. NaN unless phase j was visited before visit v
    and is not v's own.

    Args:
        matrix: R, float [..., V, T, N]; NaN where nothing is known.
        told: of `visits`.
        low_is_good: whether less is better.

    Raises:
        ValueError: shapes that do not fit.

    Reference: Chaudhry, Dokania, Ajanthan, Torr, Riemannian Walk for Incremental Learning, ECCV 2018, the
        forgetting measure f_j^k; its mean over j in the last row is their F.
    """
    better = _signed(matrix, told, low_is_good)
    best = np.fmax.accumulate(better, axis=-3)[..., :-1, :, :]
    lost = np.full_like(better, np.nan)
    with np.errstate(invalid="ignore"):  # of an infinite loss: NaN says it
        lost[..., 1:, :, :] = best - better[..., 1:, :, :]
    return np.where(_old(told)[..., None], lost, np.nan)


def backward_transfer(matrix: Any, told: Visits, *, low_is_good: bool = False) -> np.ndarray:
    """What later phases did for an earlier one: R[v, j] - R[u, j], u the last visit of j before v.

    Float [..., V, T, N]: above 0 where later training helped, whatever `low_is_good`; below 0 where it harmed.
    NaN unless phase j was visited before visit v and is not v's own.

    Args:
        matrix: R, float [..., V, T, N]; NaN where nothing is known.
        told: of `visits`.
        low_is_good: whether less is better.

    Raises:
        ValueError: shapes that do not fit.

    Reference: Lopez-Paz, Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017, section 2; the
        mean over j in the last row is their BWT.
    Departures: phases may come again; the score to compare with is then the one after the latest visit.
    """
    better = _signed(matrix, told, low_is_good)
    moved = np.full_like(better, np.nan)
    for visit, phase in zip(*np.nonzero(_old(told))):
        learned = np.flatnonzero(told.phase[:visit] == phase)[-1]
        with np.errstate(invalid="ignore"):  # of an infinite loss: NaN says it
            moved[..., visit, phase, :] = better[..., visit, phase, :] - better[..., learned, phase, :]
    return moved


def adaptation_lag(
    values: Any,
    at: Any,
    told: Visits,
    *,
    share: float = 0.95,
    reference: str = "before",
    low_is_good: bool = False,
) -> np.ndarray:
    """Rounds into a visit until a client has made up most of what the change cost, float [..., V, N].

    Let x be its first score in the visit and r the reference. The lag is the number of rounds trained in the
    visit at the first evaluation whose score is at least r - (1 - share) (r - x); 0 if x is no worse than r,
    and infinity if no evaluation of the visit gets there. NaN where x or r is not known, as in the first visit
    for "before". It is as fine as the evaluations are frequent.

    Args:
        values: see above.
        at: see above.
        told: of `visits`.
        share: of the loss r - x to be made up, in (0, 1].
        reference: "before", the last score before the change; or "end", the last score of the visit itself,
            which tells speed apart from how hard the new phase is.
        low_is_good: whether less is better.

    Raises:
        TypeError: share is no number.
        ValueError: share outside (0, 1], an unknown reference, shapes that do not fit.

    Reference: Shaker, Hüllermeier, Recovery analysis for adaptive learning from non-stationary data streams,
        Neurocomputing 150, 2015.
    Departures: theirs is the time until a learner is back at 95 % of the level of one that never saw a change;
        here the share is one of the loss, so that it means the same for any metric and unit.
    """
    known("reference", reference, REFERENCES)
    share = scalar("share", share, above=0.0, remedy="0.95 asks for 95 % of what was lost")
    require(share <= 1, f"share must be <= 1, got {short(share)}: 1 asks for all that was lost")
    values, at, place = _evaluations(values, at, told)
    better = -values if low_is_good else values
    lag = np.full((*values.shape[:-2], len(told.phase), values.shape[-1]), np.nan)
    for visit in range(len(told.phase)):
        inside = np.flatnonzero(place == visit)
        from_ = visit - 1 if reference == "before" else visit
        aims = np.flatnonzero((place == from_) & (at > 0))
        if not len(inside) or not len(aims):
            continue
        first, aim = better[..., inside[0], :], better[..., aims[-1], :]
        with np.errstate(invalid="ignore"):
            enough = aim - (1 - share) * (aim - first)
        # of an infinite loss no share can be made up: all of it must be
        enough = np.where(np.isfinite(first), enough, aim)
        reached = better[..., inside, :] >= enough[..., None, :]
        rounds = (at[inside] - told.begin[visit])[reached.argmax(-2)].astype(float)
        found = np.where(reached.any(-2), rounds, np.inf)
        found = np.where(first >= aim, 0.0, found)
        lag[..., visit, :] = np.where(np.isnan(first) | np.isnan(aim), np.nan, found)
    return lag


def by_phase(
    values: Any, at: Any, told: Visits, *, share: float = 0.95, low_is_good: bool = False
) -> dict[str, np.ndarray]:
    """What a run's own evaluations tell of each phase, by name, float [..., T]; NaN where they tell nothing.

    "forgetting" and "backward transfer" are means over the returns to the phase and over clients; "adaptation
    lag" is the median over both of the rounds to adapt to the phase on entering it, against "before", and
    "recovered" the share of them that did at all.

    Args:
        values: see above.
        at: see above.
        told: of `visits`.
        share: see `adaptation_lag`.
        low_is_good: whether less is better.

    Raises:
        TypeError, ValueError: see `adaptation_lag`.
    """
    matrix = scores(values, at, told)
    lag = adaptation_lag(values, at, told, share=share, low_is_good=low_is_good)
    entered = [lag[..., told.phase == phase, :] for phase in range(told.phases)]
    return {
        "forgetting": _mean(forgetting(matrix, told, low_is_good=low_is_good)),
        "backward transfer": _mean(backward_transfer(matrix, told, low_is_good=low_is_good)),
        "adaptation lag": np.stack([_median(one) for one in entered], -1),
        "recovered": np.stack([_recovered(one) for one in entered], -1),
    }


def _evaluations(values: Any, at: Any, told: Visits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values, at, the visit of each evaluation)."""
    values, at = np.asarray(values, float), np.asarray(at)
    require(
        at.ndim == 1 and values.ndim >= 2 and values.shape[-2] == len(at),
        f"values must have shape [..., E, N] with the E of at, {at.shape}, got {values.shape}: one row an "
        "evaluation",
    )
    require(bool((np.diff(at) > 0).all()), f"at must be ascending, got {short(at.tolist())}: in order of time")
    last = int(told.end[-1])
    require(
        not len(at) or (at[0] >= 0 and at[-1] <= last),
        f"at must lie in 0..{last}, the rounds of the visits, got {short(at.tolist())}: ask visits for as many "
        "rounds as were trained",
    )
    return values, at, np.searchsorted(told.begin, np.maximum(at - 1, 0), side="right") - 1


def _signed(matrix: Any, told: Visits, low_is_good: bool) -> np.ndarray:
    """R, more is better."""
    matrix = np.asarray(matrix, float)
    expected = (len(told.phase), told.phases)
    require(
        matrix.ndim >= 3 and matrix.shape[-3] == expected[0] and matrix.shape[-2] >= expected[1],
        f"matrix must have shape [..., V, T, N] with V = {expected[0]} visits and T >= {expected[1]} phases, "
        f"got {matrix.shape}: a score after each visit on each phase",
    )
    matrix = matrix[..., : expected[1], :]
    return -matrix if low_is_good else matrix


def _old(told: Visits) -> np.ndarray:
    """Whether phase j was visited before visit v and is not v's own, bool [V, T]."""
    own = told.phase[:, None] == np.arange(told.phases)
    return (np.cumsum(own, 0) > 0) & ~own


def _mean(values: np.ndarray) -> np.ndarray:
    """[..., V, T, N] -> [..., T] over what is known."""
    there = ~np.isnan(values)
    total, count = np.where(there, values, 0).sum((-3, -1)), there.sum((-3, -1))
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _median(lag: np.ndarray) -> np.ndarray:
    """[..., V', N] -> [...] over what is known; infinity counts as the longest."""
    flat = lag.reshape(*lag.shape[:-2], -1)
    if not flat.shape[-1]:
        return np.full(flat.shape[:-1], np.nan)
    flat = np.sort(flat, axis=-1)  # NaN comes last
    count = (~np.isnan(flat)).sum(-1, keepdims=True)
    low = np.take_along_axis(flat, np.maximum(count - 1, 0) // 2, -1)
    high = np.take_along_axis(flat, np.minimum(count // 2, flat.shape[-1] - 1), -1)
    return ((low + high) / 2)[..., 0]


def _recovered(lag: np.ndarray) -> np.ndarray:
    """[..., V', N] -> [...], the share of what is known that is finite."""
    known_, finite = (~np.isnan(lag)).sum((-2, -1)), np.isfinite(lag).sum((-2, -1))
    return np.divide(finite, known_, out=np.full(known_.shape, np.nan), where=known_ > 0)
