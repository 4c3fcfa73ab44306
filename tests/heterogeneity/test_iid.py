"""Independent clients: sizes, every row once, seeds, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity.iid import iid
from fedjax_het.pool import pool

SPLITS = ("train", "valid", "test")


def small(rows, task="classification"):
    return pool(np.arange(rows, dtype=float)[:, None], np.arange(rows) % 3, task=task)


def sizes_of(federation):
    return sum(np.asarray(federation.rows(split).size[0]) for split in SPLITS)


def indices(federation):
    """All rows that anybody holds; splits that nobody has store a filler."""
    return np.concatenate(
        [np.asarray(federation.rows(s).index)[: int(federation.rows(s).size.sum())] for s in SPLITS]
    )


@settings(max_examples=25, derandomize=True, deadline=None)
@given(rows=st.integers(1, 60), share=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_equal_sizes_and_every_row_once(rows, share, seed):
    clients = max(1, int(rows * share))
    federation = iid(small(rows), clients=clients, seed=seed, valid=0.1)
    assert sorted(indices(federation)) == list(range(rows))
    size = sizes_of(federation)
    assert len(size) == clients and np.ptp(size) <= 1 and np.all(np.diff(size) <= 0)


def test_given_sizes():
    federation = iid(small(30, "regression"), clients=4, sizes=[5, 0, 20, 1])
    assert sizes_of(federation).tolist() == [5, 0, 20, 1]
    assert len(set(indices(federation))) == 26
    assert federation.test.size[0].tolist() == [1, 0, 4, 0]


def test_seeds():
    one, two, other = (iid(small(50), clients=5, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.train.index, other.train.index)


def test_clients_see_the_mix_of_the_pool():
    federation = iid(small(6000), clients=3, test=0.0)
    labels = np.asarray(federation.y)[np.asarray(federation.train.index)].reshape(3, 2000)
    for client in labels:
        assert abs(np.bincount(client) - 2000 / 3).max() < 100


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"clients": 0}, ValueError, "clients must be >= 1, got 0: say how many"),
        ({"clients": 2.0}, TypeError, "clients must be a whole number, got 2.0: say how many"),
        ({"clients": 11}, ValueError, "clients must be <= 10, got 11"),
        ({"clients": 2, "sizes": [5, 6]}, ValueError, "sizes must add up to at most 10, got 11"),
        ({"clients": 2, "sizes": [5]}, ValueError, "sizes must list 2 clients, got 1 sizes"),
        ({"clients": 2, "sizes": [5, -1]}, ValueError, "sizes must be >= 0, got -1: pass one size a client"),
        ({"clients": 2, "sizes": 5}, TypeError, "sizes must be a sequence of whole numbers, got 5: pass one"),
        ({"clients": 2, "sizes": [0, 0]}, ValueError, "sizes must add up to at least 1, got 0 for all 2"),
        ({"clients": 2, "test": -0.2}, ValueError, "test must be >= 0 and < 1, got -0.2"),
        ({"clients": 2, "seed": -1}, ValueError, "seed must be >= 0, got -1"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        iid(small(10), **arguments)


def test_refuses_what_is_no_pool():
    with pytest.raises(TypeError, match=r"pool must be a Pool, got Federation: pass federation\.pool"):
        iid(iid(small(10), clients=2), clients=2)
