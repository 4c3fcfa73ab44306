"""Growing clients: nested training rows, linear sizes, everything in the last phase."""

import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import cut, rows_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity import temporal


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    count=st.integers(2, 8),
    start=st.floats(0, 0.99),
    length=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_rows_come_and_stay(sizes, count, start, length, seed):
    assume(sum(sizes) > 0)
    before = cut(tuple(sizes))
    own = rows_of(before, "train")
    largest = max(len(rows) for rows in own)
    assume(count <= largest - max(1, round(start * largest)) + 1)
    held = temporal.growing(before, length=length, phases=count, start=start, seed=seed)
    assert held.spec.phases == count and held.valid is before.valid and held.test is before.test
    assert held.train.index.shape == (max(1, sum(map(len, own))),)
    totals = []
    last = [set() for _ in own]
    for t in range(count):
        now = [set(rows.tolist()) for rows in rows_of(held, "train", t)]
        for k, rows in enumerate(now):
            n = len(own[k])
            share = start + (1 - start) * t / (count - 1)
            assert last[k] <= rows and len(rows) == len(rows_of(held, "train", t)[k])
            # half a row of rounding, and what is left of the rounding, or of the one row, at the beginning
            assert abs(len(rows) - share * n) <= 0.5 + (1 - t / (count - 1)) + 1e-6
            assert len(rows) >= min(n, 1)
        totals.append(sum(map(len, now)))
        last = now
    assert [rows == set(theirs.tolist()) for rows, theirs in zip(last, own)] == [True] * len(own)
    assert np.all(np.diff(totals) > 0)
    for r in range(length * count + 5):
        assert int(held.phase(jnp.asarray(r, jnp.int32))) == min(r // length, count - 1)


def test_rows_come_in_random_order():
    before = cut((400,))
    one, two, other = (
        rows_of(temporal.growing(before, length=1, phases=3, seed=seed), "train", 0)[0] for seed in (0, 0, 1)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert len(one) == 24 and set(one.tolist()) != set(rows_of(before, "train")[0][:24].tolist())
    # the mean of 24 of 240 places: six standard deviations are 81
    place = [rows_of(before, "train")[0].tolist().index(row) for row in one]
    assert abs(np.mean(place) - 119.5) < 81


def test_truth_is_what_clients_begin_with():
    held = temporal.growing(cut((50, 5, 0, 20)), length=2, phases=4, start=0.2)
    np.testing.assert_array_equal(held.truth["first"], [6, 1, 0, 2])
    np.testing.assert_array_equal(held.train.size[0], held.truth["first"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"phases": 13},
            ValueError,
            "phases must be <= 12, got 13: the largest client has 12 .* begins with 1; t",
        ),
        ({"phases": 8, "start": 0.5}, ValueError, "phases must be <= 7, got 8: .* begins with 6; take fewer"),
        (
            {"phases": 2, "start": 0.99},
            ValueError,
            "phases must be <= 1, got 2: .* no client has rows that could",
        ),
        ({"phases": 1}, ValueError, "phases must be >= 2, got 1: rows grow from phase to phase"),
        ({"start": 1}, ValueError, "start must be < 1, got 1: leave rows that can come later"),
        ({"start": -0.1}, ValueError, "start must be >= 0, got -0.1: it is the share of rows"),
        ({"start": "half"}, TypeError, "start must be a number, got 'half'"),
        ({"length": 0}, ValueError, "length must be >= 1, got 0"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        temporal.growing(cut(), **{"length": 2, "phases": 3, **options})


def test_the_largest_number_that_is_named_goes():
    assert temporal.growing(cut(), length=1, phases=12).spec.phases == 12
    assert temporal.growing(cut(), length=1, phases=7, start=0.5).spec.phases == 7
