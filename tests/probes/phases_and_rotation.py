"""A federation whose clients change: other rows after a few rounds, and features turned by an angle of each."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.assembly import assemble
from fedjax_het.typing import Array, PyTree
from probes.blobs import SIZES, blobs

__all__ = ["SWITCH", "federation", "from_round", "rotate"]

SWITCH = 2
"""The first round of the second phase."""


def rotate(x: Array, y: Array, angle: PyTree, row: Array) -> tuple[Array, Array]:
    """The first two features [..., d] turned by `angle` (scalar)."""
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., 0], x[..., 1]
    turned = jnp.stack([cos * first - sin * second, sin * first + cos * second], axis=-1)
    return jnp.concatenate([turned, x[..., 2:]], axis=-1), y


def _late(switch: Array, round_: Array) -> Array:
    return (round_ >= switch).astype(jnp.int32)


def from_round(switch: int) -> Any:
    """Phase 0 before round `switch` and phase 1 from then on; the number is a leaf."""
    return jax.tree_util.Partial(_late, jnp.asarray(switch, jnp.int32))


def _joined(first: fh.Rows, second: fh.Rows) -> fh.Rows:
    offset = jnp.concatenate([first.offset, second.offset + first.index.shape[0]])
    return fh.Rows(
        jnp.concatenate([first.index, second.index]), offset, jnp.concatenate([first.size, second.size])
    )


def federation(*, switch: int = SWITCH, seed: int = 0) -> fh.Federation:
    """Two phases with rows of their own and sizes in opposite order; angles [2, N]."""
    clients, sizes = len(SIZES), np.concatenate([SIZES, SIZES[::-1]])
    pool = blobs(2 * sum(sizes), seed=seed)
    ends = np.cumsum(np.repeat(sizes, 2)).tolist()
    held = np.split(np.arange(ends[-1]), ends[:-1])
    train, test = held[::2], held[1::2]
    angle = np.random.default_rng(seed).uniform(-1, 1, (2, clients))
    turn = fh.Transform(jnp.asarray(angle, jnp.result_type(float)), rotate)
    early = assemble(pool, train[:clients], test=test[:clients], transforms=[turn])
    late = assemble(pool, train[clients:], test=test[clients:], transforms=[turn])
    most = np.maximum(early.spec.capacity, late.spec.capacity).tolist()
    return dataclasses.replace(
        early,
        train=_joined(early.train, late.train),
        valid=_joined(early.valid, late.valid),
        test=_joined(early.test, late.test),
        schedule=from_round(switch),
        spec=dataclasses.replace(early.spec, phases=2, capacity=tuple(most)),
    )
