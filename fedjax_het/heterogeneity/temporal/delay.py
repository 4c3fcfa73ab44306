"""Label delay: clients train on what they could label, and are tested on what is there now."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import SPLITS, Federation, Rows
from fedjax_het.phases import Season, Switch, over_time, season
from fedjax_het.transforms import expect_federation, recorded

__all__ = ["label_delay"]


def label_delay(federation: Federation, *, phases: int) -> Federation:
    """Labels arrive d phases late: clients train and validate on what they saw d phases ago.

    In the q-th phase since round 0 clients train and validate on the rows of phase max(q - d, 0), while test
    rows are those of phase q. Seasons count on: in the first phase of the second turn, q = T, labels of phase
    T - d arrive. A switch stays in its last phase, so labels of its last d phases never arrive.

    Args:
        federation: of T phases, by a `Switch` or a `Season`.
        phases: d; for a switch at most T - 1.

    Returns:
        The federation: T phases of a switch, T + d of a season (d that come once, then T again and again), over
        the same stored rows; truth: "delay", int scalar.

    Raises:
        TypeError: not a federation, a delay that is no whole number.
        ValueError: a federation of one phase or with a schedule of another kind, a delay that is longer than
            a switch.
    """
    held = expect_federation("federation", federation)
    count, schedule = held.spec.phases, held.schedule
    late = positive_int("phases", phases, remedy="it is how many phases late labels are")
    require(
        count > 1 and isinstance(schedule, (Switch, Season)),
        f"federation must have phases that follow a Switch or a Season, got {count} of "
        f"{type(schedule).__name__}: apply sudden, gradual, recurring, rotating_classes or growing first",
    )
    if isinstance(schedule, Season):
        once, again = int(schedule.once), int(schedule.phases)
        now = np.arange(count + late)
        now = np.where(now < once, now, once + (now - once) % again)
        seen = np.concatenate([np.zeros(late, np.int64), now[:count]])
        schedule = season(int(schedule.length), again, once=once + late)
    else:
        require(late < count, f"phases must be < {count}, got {late}: no label of a later phase would arrive")
        now = np.arange(count)
        seen = np.maximum(now - late, 0)
    rows = {split: _at(held.rows(split), now if split == "test" else seen) for split in SPLITS}
    return over_time(held, schedule, len(now), rows=rows, truth=recorded(held.truth, delay=late))


def _at(rows: Rows, phase: np.ndarray) -> Rows:
    """The rows of these phases [T'] in this order, over the same index."""
    place = np.minimum(phase, rows.offset.shape[0] - 1)
    offset, size = (jnp.asarray(np.asarray(leaf)[place]) for leaf in (rows.offset, rows.size))
    seen = phase if rows.seen is None else np.asarray(rows.seen)[phase]
    return Rows(rows.index, offset, size, jnp.asarray(seen, jnp.int32))
