"""Cohorts by script, each member with its fraction of local work."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.typing import Array
from reference.setting import COHORTS

WORK = np.array(
    [
        [0.5, 1.0, 0.34, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75],
        [1.0, 0.1, 1.0, 0.5, 1.0, 0.7, 1.0, 0.2, 1.0],
        [0.6, 1.0, 0.9, 0.5, 1.0, 0.3, 1.0, 1.0, 1.0],
    ]
)
"""[round, client]: client 1, of one row and two steps, takes none in round 1."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Straggling:
    """Who takes part, int32 [rounds, C], and how much of its work each client does, float [rounds, N]."""

    ids: Array
    work: Array

    def init(self, num_clients):
        return ()

    def draw(self, state, key, round_, sizes, last_loss):
        drawn = fh.sampling.full(self.ids[round_])
        return drawn._replace(work=self.work[round_, drawn.id].astype(drawn.work.dtype)), state


def straggling(cohorts=COHORTS, work=WORK):
    """The sampler."""
    return Straggling(jnp.asarray(cohorts, jnp.int32), jnp.asarray(work, jnp.result_type(float)))


_rounds = jax.jit(block, static_argnames="rounds")


def rounds_of(algorithm, federation, key, sampler, rounds, change=lambda state: state, **options):
    """(state, log) after so many rounds."""
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), **options)
    state = change(initial_state(algorithm, federation, key=key, round_fn=round_fn))
    return _rounds(round_fn, algorithm, state, federation, rounds=rounds)
