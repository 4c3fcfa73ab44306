"""Growing clients: training rows arrive as time goes by."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require, scalar
from fedjax_het.federation import Federation, Rows
from fedjax_het.heterogeneity.counts import held_rows
from fedjax_het.phases import of_one_phase, over_time, switch
from fedjax_het.split import generator
from fedjax_het.transforms import recorded

__all__ = ["growing"]


def growing(
    federation: Federation, *, length: int, phases: int, start: float = 0.1, seed: int = 0
) -> Federation:
    """Clients begin with a share of their training rows, and hold all of them in the last phase.

    A client of n rows holds, in phase t = 0, ..., T - 1,

        round(n_0 + (n - n_0) t / (T - 1)),   n_0 = max(1, round(start n)),

    the first of its rows in a random order: rows that have come stay. An empty client stays empty. Validation
    and test rows are all there from the beginning. The last phase does not end.

    Args:
        federation: of one phase.
        length: rounds of a phase.
        phases: T, at least 2; a phase must bring the largest client a row.
        start: share of the rows that are there in phase 0, in [0, 1).
        seed: of the order in which rows come.

    Returns:
        The federation; truth: "first", the n_0 as int [N].

    Raises:
        TypeError: not a federation, numbers that are none.
        ValueError: a federation that has phases, a share outside [0, 1), more phases than the largest client
            has rows to bring (the largest number that goes is named).
    """
    held = of_one_phase("federation", federation)
    length = positive_int("length", length, remedy="it is the rounds of a phase, such as 10")
    count = positive_int("phases", phases, least=2, remedy="rows grow from phase to phase")
    share = scalar(
        "start", start, least=0, remedy="it is the share of rows that are there at first, such as 0.1"
    )
    require(share < 1, f"start must be < 1, got {start}: leave rows that can come later")
    owner, row = held_rows(held)
    size = np.bincount(owner, minlength=held.num_clients)
    first = np.where(size > 0, np.maximum(np.rint(share * size), 1), 0).astype(np.int64)
    most = int((size - first).max()) + 1
    remedy = "take fewer phases, or a smaller start" if most > 1 else "no client has rows that could come later"
    require(
        count <= most,
        f"phases must be <= {most}, got {count}: the largest client has {int(size.max())} training rows and "
        f"begins with {int(first[np.argmax(size)])}; {remedy}",
    )
    grown = np.rint(first + (size - first) * (np.arange(count) / (count - 1))[:, None])
    order = np.lexsort((generator(seed, "growing").random(len(row)), owner))
    rows = Rows(
        jnp.asarray(row[order], jnp.int32),
        jnp.asarray(np.broadcast_to(np.cumsum(size) - size, grown.shape), jnp.int32),
        jnp.asarray(grown, jnp.int32),
    )
    rounds = (length * np.arange(1, count)).tolist()
    return over_time(held, switch(rounds), count, rows={"train": rows}, truth=recorded(held.truth, first=first))
