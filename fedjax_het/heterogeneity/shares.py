"""Draws from Dirichlet distributions that follow their concentration: common random numbers."""

from __future__ import annotations

import numpy as np

from fedjax_het.buffers import room
from fedjax_het.split import hashed

__all__ = ["dirichlet_shares", "draw_shares", "log_shares", "wishes"]

BLOCK = 1 << 13
"""Draws that are worked on at a time, so that a million need no more memory than their result."""


def dirichlet_shares(rng: np.random.Generator, concentration: np.ndarray, draws: int) -> np.ndarray:
    """Draws from Dir(a_1, ..., a_P), float64 [draws, P]; see `log_shares`."""
    return np.exp(log_shares(rng, concentration, draws))


def wishes(log: np.ndarray) -> np.ndarray:
    """Shares as what clients wish for, float64 [draws, P]: the same, but that faint parts keep their order.

    A part of e^-20 or less is lifted, the smallest of all to e^-60 at most: of two parts that nobody would ever
    see, the larger is still the one to take when a client's own part has run out.

    Args:
        log: of shares, as `log_shares` returns them; -inf stays nothing.
    """
    faint = np.where(np.isfinite(log), np.maximum(-20.0 - log, 0.0), 0.0)
    lifted = np.where(faint > 0, -20.0 - 40.0 * faint / (faint + 400.0), log)
    wish = np.exp(lifted)
    return wish / wish.sum(1, keepdims=True)


def log_shares(rng: np.random.Generator, concentration: np.ndarray, draws: int) -> np.ndarray:
    """Logarithms of draws from Dir(a_1, ..., a_P), float64 [draws, P].

    Args:
        rng: where the random numbers come from; as many are used whatever the concentration is, and a draw
            changes little if the concentration changes little.
        concentration: a, float [P], >= 0 and not all 0; a part of concentration 0 gets nothing.
        draws: how many.

    A Gamma(a) variable is Gamma(a + 1) times U^(1/a); in logarithms it cannot underflow, however small a is.
    Gamma(a + 1) comes from one normal and one uniform number, and in the one case of twenty in which these are
    rejected from others that belong to the same entry.

    Reference: Marsaglia, Tsang, "A simple method for generating gamma variables", ACM TOMS 2000, section 2 and
        the remark in section 6.
    """
    parts = len(concentration)
    out = np.full((draws, parts), -np.inf)
    held = np.flatnonzero(concentration > 0)
    a = concentration[held]
    normal = rng.standard_normal((draws, len(held)))
    uniform = rng.random((draws, len(held)))
    power = rng.standard_exponential((draws, len(held)))
    word = rng.integers(0, 2**64, dtype=np.uint64)
    log = _log_gamma(a + 1, normal, uniform, word) - power / a
    log -= log.max(1, keepdims=True)
    out[:, held] = log - np.log(np.exp(log).sum(1, keepdims=True))
    return out


def draw_shares(
    rng: np.random.Generator, concentration: np.ndarray, draws: int, columns: np.ndarray, parts: int
) -> np.ndarray:
    """`dirichlet_shares` in single precision and in other columns, read-only float32 [draws, parts].

    Args:
        rng: where the random numbers come from.
        concentration: a, float [P].
        draws: how many.
        columns: where each part goes, int [P], each once; other columns are 0.
        parts: how many columns there are.
    """
    out = room((draws, parts), np.float32)
    out[:] = 0
    for start in range(0, draws, BLOCK):
        rows = out[start : start + BLOCK]
        rows[:, columns] = dirichlet_shares(rng, concentration, len(rows))
    out.flags.writeable = False
    return out


def _log_gamma(a: np.ndarray, normal: np.ndarray, uniform: np.ndarray, word: np.uint64) -> np.ndarray:
    """The logarithm of Gamma(a) variables for a >= 1, of the shape of `normal`."""
    d = np.broadcast_to(a - 1 / 3, normal.shape)
    value, accepted = _proposed(d, normal, uniform)
    entry = np.flatnonzero(~accepted)
    attempt = 0
    while len(entry):
        attempt += 2
        first, second = (hashed(hashed(word, np.array([attempt + i])), entry) for i in (0, 1))
        again = hashed(hashed(word, np.array([attempt + 2])) ^ first, entry)
        radius = np.sqrt(-2 * np.log(_unit(first)))  # a normal number by Box and Muller
        new, kept = _proposed(d.flat[entry], radius * np.cos(2 * np.pi * _unit(second)), _unit(again))
        value.flat[entry[kept]] = new[kept]
        entry = entry[~kept]
    return value


def _proposed(d: np.ndarray, normal: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log of the proposal, whether it is accepted)."""
    cube = (1 + normal / np.sqrt(9 * d)) ** 3
    log = np.log(np.where(cube > 0, cube, 1.0))
    bound = normal**2 / 2 + d * (1 - cube + log)
    return np.log(d) + log, (cube > 0) & (np.log(np.maximum(uniform, 1e-300)) < bound)


def _unit(word: np.ndarray) -> np.ndarray:
    """Random words as numbers in (0, 1)."""
    return ((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
