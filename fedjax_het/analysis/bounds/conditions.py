"""Conditions of theorems: each returns what it finds violated, by name, with the nearest legal value."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

import numpy as np
from jax.core import Tracer

from fedjax_het.analysis.constants import EACH, PROVENANCE, Constant, Constants
from fedjax_het.check import require, short

__all__ = [
    "at_least",
    "at_most",
    "constant_step",
    "convex",
    "convexity",
    "divisible",
    "enough_rounds",
    "finite",
    "identical",
    "noiseless",
    "read",
    "strongly_convex",
    "uniform",
]

ROUNDING = 1e-6
"""Relative: a step size may be a number of single precision."""

HOW = {
    "p": "the clients' shares, such as n_k / n",
    "L": "exact for quadratics and for linear models; for a network there is only the largest curvature that "
    "was met",
    "mu": "a network has none, since its loss is not convex; quadratics have the least eigenvalue, a linear "
    "model with l2 has the l2 coefficient, and bounds of convex functions take 0",
    "zeta_star_sq": "sum p_k |grad F_k|^2 at the optimum of F, which must be found first",
    "zeta_bar_sq": "a supremum over all points: give the largest value met, as trajectory_max",
    "gamma_gap": "F* - sum p_k F_k*, from the minima of F and of each F_k",
    "sigma_sq": "the variances of the clients' stochastic gradients; 0 for each with full batches",
    "sigma_star_sq": "the variances of the clients' stochastic gradients at the optimum",
    "li_G_sq": "the largest mean squared stochastic gradient on the local iterates of the run to be bounded",
    "delta": "the largest distance of a client's Hessian from the mean one",
    "distance_sq": "|w_0 - w*|^2, which needs the optimum",
    "gap": "F(w_0) - F*, which needs the minimum or a lower bound of it",
    "dissimilarity_G_sq": "with dissimilarity_B_sq = 2, twice zeta_star_sq is right for convex functions",
    "dissimilarity_B_sq": "2 for convex functions, with dissimilarity_G_sq = 2 zeta_star_sq",
    "ratio_B_sq": "sum p_k |grad F_k|^2 / |grad F|^2 at the point, or its largest value on the run",
    "lower_curvature": "0 for convex functions, else minus the least eigenvalue of a client's Hessian",
    "coordinate_G": "the largest coordinate of any stochastic gradient on the run",
    "dimension": "the number of parameters",
}
"""How to come by a constant."""

ENDLESS = ("zeta_bar_sq", "gamma_gap")
"""Constants for which infinity is an answer; `finite` says which bounds do not take it."""


def read(constants: Constants, *names: str) -> tuple[list[Any], dict[str, str]]:
    """Values of some constants, and their provenance.

    Args:
        constants: where from.
        names: which.

    Returns:
        (values, provenance): floats, arrays [N] for those that each client has; name -> provenance.

    Raises:
        TypeError: not `Constants` of `Constant`, or tracers: bounds are computed on the host.
        ValueError: one that is not known, does not exist (nan), is negative or infinite; L = 0; a wrong shape,
            or not one for each client.
    """
    if not isinstance(constants, Constants):
        raise TypeError(
            f"constants must be Constants, got {type(constants).__name__}: see fedjax_het.analysis.constants"
        )
    values, provenance = [], {}
    for name in names:
        kept = getattr(constants, name)
        require(kept is not None, f"{name} must be known, got None: {HOW[name]}")
        if not isinstance(kept, Constant) or isinstance(kept.value, (Tracer, str)):
            raise TypeError(
                f"{name} must be a Constant of concrete numbers, got {short(getattr(kept, 'value', kept))}: "
                "make it with constants.given, and call bounds outside jit and vmap"
            )
        array = np.asarray(kept.value, np.float64)
        _check(constants, name, array)
        values.append(array if array.ndim else float(array))
        provenance[name] = kept.provenance
    return values, provenance


def _check(constants: Constants, name: str, array: np.ndarray) -> None:
    each = name in EACH
    require(
        array.ndim == each,
        f"{name} must be {'one number a client [N]' if each else 'one number'}, got shape {list(array.shape)}: "
        "take one setting of a sweep at a time",
    )
    require(not (array < 0).any(), f"{name} must be >= 0, got {array.min()}: {HOW[name]}")
    if name != "mu":  # which bounds say themselves that it is missing, see `strongly_convex`
        require(
            not np.isnan(array).any(),
            f"{name} must exist, got nan: these functions have none, since some client's, or their mean, has "
            "negative curvature, or their mean has no minimum; yu2019 asks for none that is missing then",
        )
    require(name in ENDLESS or not np.isinf(array).any(), f"{name} must be finite, got infinity: {HOW[name]}")
    require(
        name != "L" or bool(array > 0), f"L must be > 0, got {array}: linear functions have no optimum to reach"
    )
    if each and isinstance(constants.p, Constant):
        count = np.shape(constants.p.value)
        require(
            array.shape == count,
            f"{name} must have one value for each of {count[0]} clients, got {array.size}: [N], as p has",
        )


def _legal(limit: float, rounding: str) -> str:
    """`limit` in six digits on the legal side of it, ROUND_FLOOR of an upper limit; its own last bits aside."""
    if isinstance(limit, int):
        return str(limit)
    text = f"{limit:.6g}"
    off = (float(text) - limit) * (1 if rounding == ROUND_FLOOR else -1)
    if not np.isfinite(limit) or off <= 1e-12 * abs(limit):
        return text
    return f"{float(Context(prec=6, rounding=rounding).create_decimal_from_float(limit)):.6g}"


def at_most(name: str, what: str, value: Any, limit: float, words: str) -> list[str]:
    """`name: what must be <= words = limit`, of the largest of `value`."""
    top = float(np.max(value))
    if top <= limit * (1 + ROUNDING):
        return []
    near = _legal(limit, ROUND_FLOOR)
    return [f"{name}: {what} must be <= {words} = {limit:.6g}, got {top:.6g}: the nearest legal is {near}"]


def at_least(name: str, what: str, value: float, limit: float, words: str) -> list[str]:
    """`name: what must be >= words = limit`."""
    if value >= limit * (1 - ROUNDING):
        return []
    near = _legal(limit, ROUND_CEILING)
    return [f"{name}: {what} must be >= {words} = {limit:.6g}, got {value:.6g}: the nearest legal is {near}"]


def enough_rounds(rounds: float, limit: float, words: str) -> list[str]:
    """R >= limit; the nearest legal number of rounds is whole."""
    least = limit * (1 - ROUNDING)
    if rounds >= least:
        return []
    near = int(np.ceil(least)) if np.isfinite(limit) else "none"
    return [
        f"rounds: horizon / local_steps must be >= {words} = {limit:.6g}, got {rounds:.6g}: the nearest legal "
        f"is {near}"
    ]


def constant_step(rates: np.ndarray, limit: float = np.inf) -> list[str]:
    """One step size throughout; the nearest legal one is at most `limit`."""
    if rates.max() - rates.min() <= ROUNDING * rates.max():
        return []
    return [
        f"constant step: the step size must not change, got {rates.min():.6g} to {rates.max():.6g}: the "
        f"nearest legal is {_legal(min(rates.mean(), limit), ROUND_FLOOR)} throughout"
    ]


def convex(constants: Constants) -> list[str]:
    """No client's function has negative curvature, as far as lower_curvature, or mu, says."""
    least = "the nearest legal is 0, convex functions; yu2019 and fedprox take others"
    for name in ("lower_curvature", "mu"):
        if getattr(constants, name) is None:
            continue
        (got,), _ = read(constants, name)
        if name == "lower_curvature" and got > 0:
            return [f"convexity: lower_curvature must be 0, got {got:.6g}: {least}"]
        if np.isnan(got):
            return [f"convexity: mu must be >= 0, got nan, since some client is not convex: {least}"]
    return []


def convexity(constants: Constants) -> dict[str, str]:
    """What says that the functions are convex, and how it is known; assumed where nothing does.

    Any mu >= 0 says so too, thus bounds that read mu > 0 need not ask.
    """
    kept = {name: getattr(constants, name) for name in ("lower_curvature", "mu")}
    told = {name: each.provenance for name, each in kept.items() if each is not None}
    best = min(told, key=lambda name: PROVENANCE.index(told[name]), default="lower_curvature")
    return {best: told.get(best, "assumed")}


def strongly_convex(mu: float, smoothness: float | None = None) -> list[str]:
    """mu > 0, and mu <= L where L is asked for."""
    if np.isnan(mu):
        return [
            "strong convexity: mu must be > 0, got nan, since some client is not convex: the nearest legal is "
            "any above 0"
        ]
    if not mu > 0:
        return [
            "strong convexity: mu must be > 0, got 0: the nearest legal is any above 0, such as an l2 "
            "coefficient; there are bounds of convex functions too"
        ]
    return [] if smoothness is None else at_most("curvatures", "mu", mu, smoothness, "L")


def divisible(horizon: int, local_steps: int) -> list[str]:
    """T mod E = 0."""
    if horizon % local_steps == 0:
        return []
    near = max(1, round(horizon / local_steps)) * local_steps
    return [
        f"whole rounds: horizon must be a multiple of local_steps = {local_steps}, got {horizon}: the nearest "
        f"legal is {near}"
    ]


def uniform(p: np.ndarray) -> list[str]:
    """p_k = 1/N."""
    even = 1 / len(p)
    if np.abs(p - even).max() <= ROUNDING * even:
        return []
    return [
        f"equal weights: p must be 1/N for each client, got {p.min():.6g} to {p.max():.6g}: the nearest legal "
        f"is {even:.6g}"
    ]


def noiseless(sigma_sq: np.ndarray) -> list[str]:
    """sigma_k = 0."""
    if sigma_sq.max() == 0:
        return []
    return [
        f"full batches: sigma_sq must be 0, got up to {sigma_sq.max():.6g}: the nearest legal is 0, with whole "
        "data sets as batches"
    ]


def identical(name: str, value: float, scale: float) -> list[str]:
    """zeta_*^2 or delta that must be 0 up to rounding: local minima, or curvatures, agree."""
    if value <= 1e-12 * scale:
        return []
    agree = {"zeta_star_sq": "equal optima", "delta": "equal curvatures"}[name]
    return [f"{agree}: {name} must be 0, got {value:.6g}: the nearest legal is 0, clients that agree"]


def finite(name: str, value: float) -> list[str]:
    """A supremum that must exist."""
    if np.isfinite(value):
        return []
    return [
        f"finite {name}: {name} must be finite, got inf: the nearest legal is the largest value met on a run, "
        "as trajectory_max"
    ]
