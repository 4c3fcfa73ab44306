"""Keys are used once, tracers do not leak, nothing moves between host and device inside a block of rounds.

The rounds of `test_algorithms` run under the first and the last guard, too; here the scan around them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from conformance.lab import QUICK, Lab, assert_equal, guarded


@pytest.mark.precision("float32")
def test_a_block_runs_under_every_guard(lab: Lab) -> None:
    """And its bits are those of one round after the other."""
    program = jax.jit(lambda r, a, s, f: fh.make_block(r, 2)(a, s, f), compiler_options=QUICK)
    arguments = (lab.round, lab.algorithm, lab.warm, lab.federation)
    with guarded(), jax.checking_leaks():
        state, logs = jax.block_until_ready(program(*arguments))
    assert bool(jnp.all(logs["sound"]))
    after = lab.warm
    for _ in range(2):
        after, _ = lab.run(after)
    assert_equal(state, after)


def test_the_guards_bite() -> None:
    """A key used twice, a tracer kept, an array of the host: each guard refuses what it is for."""
    key = jax.random.key(0)

    def twice(key: jax.Array) -> jax.Array:
        return jax.random.normal(key) + jax.random.uniform(key)

    with guarded(), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(twice)(key)

    kept = []
    with jax.checking_leaks(), pytest.raises(Exception, match=r"[Ll]eaked"):
        jax.jit(lambda x: kept.append(x) or x)(jnp.zeros(()))

    with guarded(), pytest.raises(Exception, match="transfer"):
        jax.jit(jnp.sin)(np.ones(3, np.float32))
