"""Histories made by hand, whose pictures are known."""

from __future__ import annotations

import numpy as np

from fedjax_het.engine import History, stack
from fedjax_het.engine.history import Variable

__all__ = ["ROUNDS", "AT", "run", "seeds"]

AT = np.array([0, 5, 10])
ROUNDS = 10
CLIENTS = 6


def run(seed: int = 0, *, consensus: bool = True, traffic: int = 1000, **extra: Variable) -> History:
    """Ten rounds of four slots, three evaluations of six clients; the last client holds no rows."""
    rng = np.random.default_rng(seed)
    rows = np.tile([3, 5, 4, 2, 7, 0], (3, 1))
    shared = np.where(rows > 0, rng.uniform(0.2, 0.9, (3, CLIENTS)), np.nan)
    personal = np.where(rows > 0, rng.uniform(0.2, 0.9, (3, CLIENTS)), np.nan)
    by_client = ("evaluation", "client")
    variables = {
        "round": Variable(("round",), np.arange(ROUNDS)),
        "seconds": Variable(("round",), np.repeat([2.0, 5.0], 5)),
        "bytes_down": Variable(("round",), np.full(ROUNDS, 3 * traffic)),
        "bytes_up": Variable(("round",), np.full(ROUNDS, traffic)),
        "present": Variable(("round", "slot"), np.tile([True, True, True, False], (ROUNDS, 1))),
        "lost": Variable(("round", "slot"), np.tile([False, False, True, False], (ROUNDS, 1))),
        "evaluated_at": Variable(("evaluation",), AT),
        "rows": Variable(by_client, rows),
        "personal/accuracy": Variable(by_client, personal),
        "personal/loss": Variable(by_client, -np.log(personal)),
    }
    if consensus:
        variables |= {
            "global/accuracy": Variable(("evaluation",), rng.uniform(0.2, 0.9, 3)),
            "global/loss": Variable(("evaluation",), np.array([50.0, 5.0, 1.0]) + seed),
            "shared/accuracy": Variable(by_client, shared),
        }
    return History(variables | extra)


def seeds(count: int, **options: bool) -> History:
    """Runs 0, 1, ... as one."""
    return stack([run(seed, **options) for seed in range(count)])
