"""Recurring states: seasons in turn, for all clients alike or each from a season of its own."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import SPLITS, cut, dealt, moved, rows_of, scaled, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity import temporal

CHANGES = (dealt, lambda federation: scaled(dealt(federation, 8)), moved)


@settings(max_examples=8, derandomize=True, deadline=None)
@given(
    count=st.integers(1, 3),
    length=st.integers(1, 4),
    offset=st.sampled_from(["same", "random"]),
    seed=st.integers(0, 99),
)
def test_clients_go_through_the_states_in_turn(count, length, offset, seed):
    first = cut()
    changes = CHANGES[:count]
    states = [first, *(change(first) for change in changes)]
    held = temporal.recurring(first, changes=changes, length=length, offset=offset, seed=seed)
    begins = np.asarray(held.truth["begins"])
    assert held.spec.phases == count + 1 and begins.min() >= 0 and begins.max() <= count
    assert offset == "random" or not begins.any()
    for r in range(0, 3 * length * (count + 1), length):
        t = int(held.phase(jnp.asarray(r, jnp.int32)))
        assert t == int(held.phase(jnp.asarray(r + length - 1, jnp.int32)))
        for k, begin in enumerate(begins):
            state = states[(r // length + begin) % (count + 1)]
            for split in SPLITS:
                np.testing.assert_array_equal(rows_of(held, split, t)[k], rows_of(state, split)[k])
            np.testing.assert_array_equal(seen(held, "test", t, k)[0], seen(state, "test", 0, k)[0])


def test_beginnings_are_drawn_and_told():
    make = partial(temporal.recurring, cut((3,) * 600), changes=[dealt, moved], length=2, offset="random")
    one, two, other = (np.asarray(make(seed=seed).truth["begins"]) for seed in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    # 200 each are expected; six standard deviations are 69
    assert np.abs(np.bincount(one, minlength=3) - 200).max() < 70
    assert sorted(make().truth) == ["begins", "marker", "state 2/moved"]


def test_rows_of_a_state_are_stored_once():
    first = cut()
    held = temporal.recurring(first, changes=[moved, dealt, scaled], length=1, offset="random")
    assert held.train.index.shape[0] == 2 * first.train.index.shape[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"changes": []}, ValueError, "changes must list at least one, got none: pass one"),
        ({"changes": dealt}, TypeError, "changes must be a list of functions of a federation, got function"),
        ({"changes": [dealt, 3]}, TypeError, r"changes\[1\] must be a function of a federation, got 3"),
        (
            {"changes": [lambda f: None]},
            TypeError,
            r"what changes\[0\] returns must be a Federation, got NoneT",
        ),
        ({"length": 0}, ValueError, "length must be >= 1, got 0: it is the rounds of a season"),
        (
            {"offset": "rand"},
            ValueError,
            "offset must be one of the names below, got 'rand': did you mean 'ran",
        ),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        temporal.recurring(cut(), **{"changes": [dealt], "length": 2, **options})
