"""What noisy sizes spend, and what they get wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fedjax_het.check import number, positive_int
from fedjax_het.weighting.noisy import Noisy

__all__ = ["Privacy", "privacy"]


@dataclasses.dataclass(frozen=True)
class Privacy:
    """An account of noisy sizes, on the host.

    Attributes:
        epsilon: spent by all releases together, for a change of `sensitivity` rows.
        epsilon_per_row: the same for a change of one row; of g rows, g times that.
        sensitivity: rows.
        releases: numbers that each client tells.
        spread: standard deviation of the noise, in rows, before the clamp.
        bias: E max(least, n + Z) - n of each size, in rows, float64.
    """

    epsilon: float
    epsilon_per_row: float
    sensitivity: float
    releases: int
    spread: float
    bias: np.ndarray


def privacy(weighting: Noisy, sizes: Any, *, releases: int = 1) -> Privacy:
    """What `noisy` sizes reveal and by how much their clamp biases them.

    Releases add up: R of them cost R eps, however the sizes between them change. The clamp, normalisation, caps
    and buckets work on what was revealed and cost nothing. With d = n - least,

        laplace, b = s/eps:           E max(least, n + Z) - n = max(-d, 0) + b/2 exp(-|d|/b)
        geometric, a = exp(-eps/s):   max(-d, 0) + c a^j ((j - |d|) / (1 - a) + a / (1 - a)^2),
                                      j = floor |d| + 1,  c = (1 - a) / (1 + a)

    The weights have a bias beyond that, since they are ratios.

    Args:
        weighting: made by `noisy`, with one epsilon.
        sizes: rows of each client before noise, any shape.
        releases: R: 1, or the phases of the federation when its schedule was given.

    Raises:
        TypeError: not made by `noisy`, or sizes that are no numbers.
        ValueError: negative sizes, fewer than one release.
    """
    if not isinstance(weighting, Noisy):
        raise TypeError(
            f"weighting must be made by fh.weighting.noisy, got {type(weighting).__name__}: pass the base of a "
            "capped one"
        )
    releases = positive_int("releases", releases, remedy="a size is told once at least")
    size = np.asarray(number("sizes", sizes, least=0, remedy="they are rows of clients"), np.float64)
    epsilon, sensitivity, least = (
        float(value) for value in (weighting.epsilon, weighting.sensitivity, weighting.least)
    )
    scale = sensitivity / epsilon
    above = size - least
    distance = np.abs(above)
    if weighting.mechanism == "laplace":
        spread = np.sqrt(2.0) * scale
        tail = scale / 2 * np.exp(-distance / scale)
    else:
        ratio, rest = np.exp(-1 / scale), -np.expm1(-1 / scale)
        spread = np.sqrt(2 * ratio) / rest
        first = np.floor(distance) + 1
        tail = rest / (1 + ratio) * ratio**first * ((first - distance) / rest + ratio / rest**2)
    bias = np.maximum(-above, 0) + tail
    return Privacy(
        releases * epsilon, releases * epsilon / sensitivity, sensitivity, releases, float(spread), bias
    )
