"""Sudden drift: clients are in the old state before their round, in the new one from it on."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import SPLITS, cut, dealt, moved, rows_of, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity import temporal
from fedjax_het.phases import phases, switch


def both(federation):
    return moved(dealt(federation))


@settings(max_examples=10, derandomize=True, deadline=None)
@given(first=st.integers(0, 9), spread=st.integers(0, 6), seed=st.integers(0, 99))
def test_every_client_changes_in_its_round(first, spread, seed):
    before = cut()
    after = both(before)
    held = temporal.sudden(before, change=both, round=first, spread=spread, seed=seed)
    begins = np.asarray(held.truth["switch"])
    assert begins.min() >= first and begins.max() <= first + spread
    assert held.spec.phases == len(set(begins.tolist())) + 1
    for r in range(first + spread + 2):
        t = int(held.phase(jnp.asarray(r, jnp.int32)))
        for split in SPLITS:
            rows = rows_of(held, split, t)
            for k, begin in enumerate(begins):
                np.testing.assert_array_equal(rows[k], rows_of(after if r >= begin else before, split)[k])


def test_what_clients_see_changes_with_their_rows():
    before = cut()
    held = temporal.sudden(before, change=both, round=3, spread=4, seed=1)
    begins = np.asarray(held.truth["switch"])
    assert len(set(begins.tolist())) > 1
    for r in range(8):
        t = int(held.phase(jnp.asarray(r, jnp.int32)))
        for k, begin in enumerate(begins):
            x, y = seen(held, "train", t, k)
            rows = rows_of(held, "train", t)[k]
            by = k + 1 if r >= begin else 0
            np.testing.assert_allclose(x, np.asarray(before.x)[rows] + by, rtol=1e-6)
            np.testing.assert_array_equal(y, np.asarray(before.y)[rows])


def test_all_at_once_without_a_spread():
    held = temporal.sudden(cut(), change=dealt, round=6)
    assert held.spec.phases == 2 and set(np.asarray(held.truth["switch"]).tolist()) == {6}
    assert [int(held.phase(jnp.asarray(r, jnp.int32))) for r in (0, 5, 6, 99)] == [0, 0, 1, 1]


def test_rounds_are_uniform_over_the_spread():
    begins = np.asarray(temporal.sudden(cut((2,) * 2000), change=dealt, round=5, spread=3).truth["switch"])
    # 500 each are expected; six standard deviations are 116
    assert np.abs(np.bincount(begins - 5, minlength=4) - 500).max() < 116


def test_storage_does_not_grow_with_the_phases():
    before = cut((4,) * 50)
    moving = temporal.sudden(before, change=moved, round=2, spread=20)
    dealing = temporal.sudden(before, change=dealt, round=2, spread=20)
    assert moving.spec.phases > 10
    assert moving.train.index is before.train.index and moving.train.offset.shape == (1, 50)
    assert dealing.train.index.shape[0] == 2 * before.train.index.shape[0]
    # numbers of the change are stored once, and for each phase only whether it is on
    assert moving.transforms[0].arguments["inner"].shape == (1, 50)


def test_seeds_and_truth():
    make = partial(temporal.sudden, cut((4,) * 30), change=moved, round=2, spread=20)
    one, two, other = (np.asarray(make(seed=seed).truth["switch"]) for seed in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert sorted(make().truth) == ["marker", "state 1/moved", "switch"]


def _late(federation):
    return phases([federation, federation], switch([1]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"change": 3}, TypeError, "change must be a function of a federation, got 3: fix a shift's options"),
        ({"change": lambda f: f.pool}, TypeError, "what change returns must be a Federation, got Pool: return"),
        (
            {"change": lambda f: cut((20, 22))},
            ValueError,
            "what change returns must have the 5 clients of the federation it was given, got 2: keep them all",
        ),
        (
            {"change": lambda f: cut(seed=1)},
            ValueError,
            "what change returns must have the pool of the federation it was given, got another one, 'blobs'",
        ),
        ({"change": _late}, ValueError, "what change returns must have one phase for this, got 2"),
        ({"round": -1}, ValueError, "round must be >= 0, got -1: it is the first round of change"),
        ({"round": 1.5}, TypeError, "round must be a whole number, got 1.5"),
        ({"spread": -1}, ValueError, "spread must be >= 0, got -1: 0 changes all clients at once"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        temporal.sudden(cut(), **{"change": dealt, "round": 3, **options})


def test_refuses_what_has_phases_and_what_is_no_federation():
    with pytest.raises(ValueError, match="federation must have one phase for this, got 2: apply what changes"):
        temporal.sudden(_late(cut()), change=dealt, round=3)
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool: deal a pool out first"):
        temporal.sudden(cut().pool, change=dealt, round=3)
