"""The data of centralised training: all clients' rows in one hand, phase by phase."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from fedjax_het import phases
from fedjax_het.check import require
from fedjax_het.construct import pooled
from fedjax_het.federation import SPLITS, Federation, Rows

__all__ = ["check_central", "pooled_over_time"]

MOST = 4 * 2**30
"""Bytes that the transformed rows of all phases may take."""


def pooled_over_time(federation: Federation) -> Federation:
    """One client that holds, in each phase, every row that somebody holds then, as it is seen then.

    Without phases it is `fh.pooled(federation)`.

    Args:
        federation: any.

    Returns:
        A federation of one client with the same schedule, without transforms. Where there were some, each
        phase has rows of its own in the pool.

    Raises:
        ValueError: nobody has a row to train on in some phase; too many rows, see `check_central`.
    """
    check_central(federation)
    if federation.spec.phases == 1:
        return pooled(federation)
    states = [pooled(_during(federation, phase)) for phase in range(federation.spec.phases)]
    if federation.transforms:
        states = _over_one_pool(states)
    one = phases.phases(states, federation.schedule)
    return dataclasses.replace(one, truth={})


def check_central(federation: Federation) -> None:
    """Raise if the pooled rows of all phases would not fit into memory.

    Raises:
        ValueError: transforms, and phases, whose rows take more than `MOST` bytes.
    """
    spec = federation.spec
    if spec.phases == 1 or not federation.transforms:
        return
    held = sum(
        int(np.asarray(rows.size, np.int64).sum()) * (spec.phases // rows.size.shape[0])
        for rows in (federation.rows(split) for split in SPLITS)
    )
    kind = federation.x.dtype if spec.pool.scale is None else jnp.result_type(float)
    room = held * math.prod(spec.pool.feature_shape) * np.dtype(kind).itemsize
    require(
        room <= MOST,
        f"centralised training must fit into {MOST / 2**30:.0f} GiB, got {room / 2**30:.1f} GiB of rows, which "
        f"are seen differently in {spec.phases} phases: leave it out of compare, or take fewer phases",
    )


def _during(federation: Federation, phase: int) -> Federation:
    """The federation as it is in one phase, for good."""

    def now(rows: Rows) -> Rows:
        offset, size = (
            leaf if leaf.shape[0] == 1 else leaf[phase : phase + 1] for leaf in (rows.offset, rows.size)
        )
        seen = jnp.full((1,), phase, jnp.int32) if rows.seen is None else rows.seen[phase : phase + 1]
        return Rows(rows.index, offset, size, seen)

    return dataclasses.replace(
        federation,
        **{split: now(federation.rows(split)) for split in SPLITS},
        schedule=None,
        spec=dataclasses.replace(federation.spec, phases=1),
    )


def _over_one_pool(states: list[Federation]) -> list[Federation]:
    """The same states, whose pools are joined to one."""
    x, y = (jnp.concatenate([getattr(state, name) for state in states]) for name in ("x", "y"))
    begin = np.cumsum([0, *(len(state.x) for state in states)])
    require(begin[-1] < 2**31, f"phases must hold less than 2**31 rows together, got {begin[-1]}: take fewer")
    told = []
    for first, state in zip(begin, states):
        rows = {split: state.rows(split) for split in SPLITS}
        moved = {
            split: dataclasses.replace(each, index=each.index + jnp.asarray(first, jnp.int32))
            for split, each in rows.items()
        }
        told.append(dataclasses.replace(state, x=x, y=y, **moved))
    return told
