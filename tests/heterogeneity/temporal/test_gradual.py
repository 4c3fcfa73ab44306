"""Gradual drift: windows over old and new rows, transforms of a growing share, both by the same draws."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import SPLITS, cut, dealt, moved, rows_of, scaled, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity import temporal


def phase(federation, r):
    return int(federation.phase(jnp.asarray(r, jnp.int32)))


def exchanged(federation, order):
    """Client k gets the rows of client order[k]."""
    at = np.asarray(order)
    rows = {
        split: dataclasses.replace(held, offset=held.offset[:, at], size=held.size[:, at])
        for split, held in ((split, federation.rows(split)) for split in SPLITS)
    }
    return dataclasses.replace(federation, **rows)


def shares(federation, begin, end):
    """The share of each client in each phase, from the rounds in which phases begin, float [T, N]."""
    begins = np.asarray(federation.truth["begin"])
    rounds = np.asarray(federation.schedule.at)
    told = np.clip((rounds[:, None] - begins) / (end - begin), 0, 1)
    return np.concatenate([np.zeros((1, len(begins))), told])


@settings(max_examples=15, derandomize=True, deadline=None)
@given(
    begin=st.integers(0, 9),
    span=st.integers(1, 30),
    steps=st.integers(1, 12),
    spread=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_old_rows_leave_and_new_ones_come(begin, span, steps, spread, seed):
    before = cut()
    after = dealt(before)
    end = begin + span
    held = temporal.gradual(before, change=dealt, begin=begin, end=end, phases=steps, spread=spread, seed=seed)
    share = shares(held, begin, end)
    assert held.spec.phases == len(share) <= steps + 1
    assert np.all(share[0] == 0) and np.all(share[-1] == 1) and np.all(np.diff(share, axis=0) >= 0)
    for split in SPLITS:
        old, new = rows_of(before, split), rows_of(after, split)
        last = [(set(rows.tolist()), set()) for rows in old]
        for t, row in enumerate(share):
            for k, mine in enumerate(rows_of(held, split, t)):
                gone, come = (round(float(row[k]) * len(rows[k])) for rows in (old, new))
                assert abs(len(mine) - (len(old[k]) - gone + come)) <= 1
                assert len(mine) > 0 or not len(old[k])
                # the window holds the last of the old rows and then the first of the new ones
                stays = next(
                    n for n in range(len(mine) + 1) if not set(mine[n:].tolist()) - set(new[k].tolist())
                )
                assert set(mine[:stays].tolist()) <= last[k][0]
                assert last[k][1] <= set(mine.tolist())
                kept = set(mine.tolist()) & last[k][0]
                last[k] = (kept, set(mine.tolist()) - set(old[k].tolist()))
        assert all(np.array_equal(np.sort(a), np.sort(b)) for a, b in zip(rows_of(held, split, 0), old))
        assert all(np.array_equal(np.sort(a), np.sort(b)) for a, b in zip(rows_of(held, split, t), new))


def test_the_window_is_as_wide_as_promised():
    """Clients whose old and new rows do not meet: counts of both are s n, rounded."""
    before = cut((50, 35, 20, 15))

    def swapped(federation):
        return exchanged(federation, [1, 0, 3, 2])

    held = temporal.gradual(before, change=swapped, begin=10, end=30, phases=7, seed=3)
    share = shares(held, 10, 30)
    for split in SPLITS:
        old = rows_of(before, split)
        for t, row in enumerate(share):
            for k, mine in enumerate(rows_of(held, split, t)):
                new = old[(1, 0, 3, 2)[k]]
                come = np.isin(mine, new).sum()
                assert np.isin(mine, old[k]).sum() + come == len(mine) == len(set(mine.tolist()))
                assert abs(come - row[k] * len(new)) <= 0.5 + 1e-4
                assert abs(len(mine) - come - (1 - row[k]) * len(old[k])) <= 0.5 + 1e-4
    assert held.train.index.shape[0] == 2 * before.train.index.shape[0]


def test_transforms_come_row_by_row_and_stay():
    before = cut((300, 200, 0))
    held = temporal.gradual(before, change=moved, begin=0, end=10, phases=5, spread=4, seed=2)
    assert held.train is before.train
    share = shares(held, 0, 10)
    assert len(set(np.asarray(held.truth["begin"]).tolist())) > 1
    for k in (0, 1):
        plain, last = np.asarray(before.x)[rows_of(before, "train")[k]], 0.0
        for t in range(held.spec.phases):
            by = (seen(held, "train", t, k)[0] - plain) / (k + 1)
            assert np.abs(by - by.round()).max() < 1e-5
            on = by.round()[:, 0]
            assert set(on) <= {0.0, 1.0} and np.all(on >= last)
            last, n, s = on, len(on), share[t, k]
            assert abs(on.mean() - s) <= 6 * np.sqrt(s * (1 - s) / n) + 1e-6


def test_clients_change_rows_of_their_own():
    """Two clients that hold the same rows do not change the same ones."""
    before = cut((200, 1))
    same = dataclasses.replace(before.train, offset=jnp.zeros((1, 2), jnp.int32), size=jnp.full((1, 2), 100))
    before = dataclasses.replace(before, train=same)
    held = temporal.gradual(before, change=scaled, begin=0, end=2, phases=2)
    a, b = (seen(held, "train", 1, k)[0] for k in (0, 1))
    assert not np.array_equal(a, b)


def test_new_rows_are_seen_through_the_new_transforms():
    """Exactly they are, though rows and transforms change in one go."""
    before = cut((100, 100))

    def both(federation):
        return moved(exchanged(federation, [1, 0]))

    held = temporal.gradual(before, change=both, begin=0, end=20, phases=8, seed=1)
    share = shares(held, 0, 20)
    counts = np.zeros(len(share))
    for split in SPLITS:
        old = rows_of(before, split)
        for t in range(len(share)):
            for k in (0, 1):
                rows, (x, _) = rows_of(held, split, t)[k], seen(held, split, t, k)
                new = np.isin(rows, old[1 - k])
                by = (x - np.asarray(before.x)[rows])[:, 0] / (k + 1)
                np.testing.assert_allclose(by, new, atol=1e-5)
                counts[t] += new.sum()
    total = sum(len(rows) for split in SPLITS for rows in rows_of(before, split))
    s = share[:, 0]
    assert np.all(np.abs(counts / total - s) <= 6 * np.sqrt(s * (1 - s) / total) + 1e-6)


def test_phases_are_at_most_the_rounds_there_are():
    held = temporal.gradual(cut(), change=dealt, begin=4, end=7)
    assert held.spec.phases == 4
    assert [phase(held, r) for r in range(4, 9)] == [0, 1, 2, 3, 3]


def test_all_clients_drift_alike_without_a_spread_and_seeds():
    before = cut((8,) * 40)
    held = temporal.gradual(before, change=dealt, begin=4, end=9)
    assert set(np.asarray(held.truth["begin"]).tolist()) == {4}
    make = [temporal.gradual(before, change=dealt, begin=4, end=9, spread=9, seed=seed) for seed in (0, 0, 1)]
    one, two, other = (np.asarray(each.truth["begin"]) for each in make)
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert np.array_equal(make[0].train.index, make[1].train.index)
    assert not np.array_equal(make[0].train.index, make[2].train.index)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"end": 4}, ValueError, "end must be > begin, got 4 after 4: use sudden for a change in one round"),
        ({"begin": -1}, ValueError, "begin must be >= 0, got -1: it is a round"),
        ({"end": 9.5}, TypeError, "end must be a whole number, got 9.5"),
        (
            {"phases": 0},
            ValueError,
            "phases must be >= 1, got 0: it is the steps from the old state to the new",
        ),
        ({"spread": -2}, ValueError, "spread must be >= 0, got -2"),
        ({"end": 500, "phases": 400}, ValueError, "phases must be <= [0-9]+, got 400: no client has more"),
        ({"change": "moved"}, TypeError, "change must be a function of a federation, got 'moved'"),
        (
            {"change": lambda f: dataclasses.replace(f, transforms=())},
            ValueError,
            "what change returns must keep the transforms that the federation has, got others: append to",
        ),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        temporal.gradual(moved(cut()), **{"change": dealt, "begin": 4, "end": 9, **options})
