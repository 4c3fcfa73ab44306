"""Keys are used once, tracers do not leak, nothing moves between host and device inside a block of rounds.

The rounds of `test_algorithms` run under the first and the last guard, too; here the scan around them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from conformance.lab import QUICK, Lab, assert_close, assert_equal, guarded


@pytest.mark.precision("float32")
def test_a_block_runs_under_every_guard(lab: Lab) -> None:
    """And a block of four rounds has the bits of two blocks of two.

    A block of one round may differ in a last digit: XLA takes its loop apart and fuses across its edges.
    """

    def program(rounds: int) -> Any:
        return jax.jit(lambda r, a, s, f: fh.make_block(r, rounds)(a, s, f), compiler_options=QUICK)

    two, four = program(2), program(4)
    arguments = (lab.round, lab.algorithm, lab.warm, lab.federation)
    with guarded(), jax.checking_leaks():
        middle, logs = jax.block_until_ready(two(*arguments))
    state, _ = two(lab.round, lab.algorithm, middle, lab.federation)
    assert bool(jnp.all(logs["sound"]))
    assert_equal(four(*arguments)[0], state)
    single = lab.warm
    for _ in range(2):
        single, _ = lab.run(single)
    assert_close(single, middle)


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
