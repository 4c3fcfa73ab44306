"""Sudden drift: from a round on, clients are in another state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from fedjax_het.check import positive_int
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.temporal.changed import changed
from fedjax_het.phases import of_one_phase, phases, switch
from fedjax_het.split import generator
from fedjax_het.transforms import recorded

__all__ = ["sudden"]


def sudden(
    federation: Federation,
    *,
    change: Callable[[Federation], Federation],
    round: int,
    spread: int = 0,
    seed: int = 0,
) -> Federation:
    """Clients are as they were before their round of change, and as `change` makes them from it on.

    Client k changes at r_k = round + u_k with u_k uniform in {0, ..., spread}. There is a phase for each
    different r_k, and the one before them all.

    Args:
        federation: of one phase.
        change: Federation -> Federation over the same clients and the same pool: a shift, or rows dealt anew,
            with options fixed (`functools.partial`, `compose`).
        round: the first round of change.
        spread: rounds over which the changes are spread; 0 changes all clients at once.
        seed: of the u_k; `change` has a seed of its own.

    Returns:
        The federation; truth: "switch", the r_k as int [N], and what `change` records under "state 1/name".

    Raises:
        TypeError: not a federation, a change that is no function or returns something else, rounds that are not
            whole numbers.
        ValueError: a federation that has phases, negative rounds, a change that returns other clients or
            another pool.

    Reference: Gama, Zliobaite, Bifet, Pechenizkiy, Bouchachia, "A survey on concept drift adaptation", ACM
        Computing Surveys 46(4), 2014, section 2.2, figure 2 (a). Clients that drift at times of their own:
        Jothimurugesan, Hsieh, Wang, Joshi, Gibbons, "Federated learning under distributed concept drift",
        AISTATS 2023.
    """
    before = of_one_phase("federation", federation)
    first = positive_int("round", round, least=0, remedy="it is the first round of change, such as 50")
    spread = positive_int("spread", spread, least=0, remedy="0 changes all clients at once")
    rng = generator(seed, "sudden")
    after = changed("change", change, before)
    begins = first + rng.integers(0, spread, before.num_clients, endpoint=True)
    rounds = np.unique(begins)
    which = np.concatenate([np.zeros((1, len(begins)), np.int64), begins <= rounds[:, None]])
    drifting = phases([before, after], switch(rounds.tolist()), which=which)
    return dataclasses.replace(drifting, truth=recorded(drifting.truth, switch=begins))
