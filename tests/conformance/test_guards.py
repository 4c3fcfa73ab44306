"""Keys are used once, nothing moves between host and device inside a round, tracers do not leak.

Every round of `test_algorithms`, a block of one, is compiled and run under the first two guards (`Lab.run`).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from conformance.lab import Lab, guarded


@contextlib.contextmanager
def checking_leaks() -> Iterator[None]:
    """Tracers that outlive their trace are errors.

    Who holds a tracer is looked for among all objects, at the end of every inner trace: those that were there
    before cannot, and are left out of the search, which is most of the time in a process that has run for long.
    """
    gc.freeze()
    try:
        with jax.checking_leaks():
            yield
    finally:
        gc.unfreeze()


@pytest.mark.precision("float32")
def test_a_block_leaks_no_tracer(lab: Lab) -> None:
    program = jax.jit(lambda *arguments: fh.make_block(lab.round, 2)(*arguments))
    arguments = (lab.algorithm, lab.start, lab.federation)
    with checking_leaks():
        program.trace(*arguments)


@pytest.mark.precision("float32")
def test_rounds_run_guarded(lab: Lab) -> None:
    """Said here again, since it is a property of its own: `Lab.run` is guarded."""
    state, log = lab.run(lab.start)
    assert int(state.round) == 1
    assert bool(log["sound"])


def test_the_guards_bite() -> None:
    """A key used twice, a tracer kept, an array of the host: each guard refuses what it is for."""
    key = jax.random.key(0)

    def twice(key: jax.Array) -> jax.Array:
        return jax.random.normal(key) + jax.random.uniform(key)

    with guarded(), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(twice)(key)

    kept = []
    with checking_leaks(), pytest.raises(Exception, match=r"[Ll]eaked"):
        jax.jit(lambda x: kept.append(x) or x)(jnp.zeros(()))

    with guarded(), pytest.raises(Exception, match="transfer"):
        jax.jit(jnp.sin)(np.ones(3, np.float32))
