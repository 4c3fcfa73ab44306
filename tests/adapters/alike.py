"""Two federations are one."""

import jax
import numpy as np


def equal(one, other):
    """Static facts, names of truths, every array and its type."""
    assert jax.tree.structure(one) == jax.tree.structure(other), "static facts"
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def rows(federation, client):
    """The row numbers of the pool that a client holds, whatever the split."""
    held = []
    for split in ("train", "valid", "test"):
        part = federation.rows(split)
        start, size = int(part.offset[0, client]), int(part.size[0, client])
        held.append(np.asarray(part.index)[start : start + size])
    return np.concatenate(held)
