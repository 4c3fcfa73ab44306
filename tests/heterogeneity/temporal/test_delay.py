"""Label delay: training and validation rows are those of some phases ago, test rows those of now."""

import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import cut, dealt, moved, rows_of, scaled, seen
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity import temporal
from fedjax_het.phases import Switch, phases, season, switch


def states(count, first=None):
    first = cut() if first is None else first
    return [first, *(dealt(first, seed) for seed in range(1, count))]


def check(held, late, schedule, delay, rounds):
    """Rows in each round: those of the state that was on `delay` phases ago for train and valid."""
    began = [0]
    for r in range(1, rounds):
        if int(schedule(jnp.asarray(r, jnp.int32))) != int(schedule(jnp.asarray(r - 1, jnp.int32))):
            began.append(r)
    for r in range(rounds):
        turn = sum(begin <= r for begin in began) - 1
        now = int(schedule(jnp.asarray(r, jnp.int32)))
        then = int(schedule(jnp.asarray(began[max(turn - delay, 0)], jnp.int32)))
        phase = int(late.phase(jnp.asarray(r, jnp.int32)))
        for split, t in (("train", then), ("valid", then), ("test", now)):
            for a, b in zip(rows_of(late, split, phase), rows_of(held, split, t)):
                np.testing.assert_array_equal(a, b)


@settings(max_examples=8, derandomize=True, deadline=None)
@given(count=st.integers(2, 5), data=st.data())
def test_of_a_switch(count, data):
    delay = data.draw(st.integers(1, count - 1), "delay")
    schedule = switch([2 * t for t in range(1, count)])
    held = phases(states(count), schedule)
    late = temporal.label_delay(held, phases=delay)
    assert late.spec.phases == count and late.train.index is held.train.index
    check(held, late, schedule, delay, 2 * count + 3)


@settings(max_examples=8, derandomize=True, deadline=None)
@given(count=st.integers(2, 4), delay=st.integers(1, 6), length=st.integers(1, 3), once=st.integers(0, 1))
def test_of_seasons_it_counts_on(count, delay, length, once):
    schedule = season(length, count - once, once=once)
    assume(count - once > 1)  # a single season stays: nothing changes any more
    held = phases(states(count), schedule)
    late = temporal.label_delay(held, phases=delay)
    assert late.spec.phases == count + delay and late.train.index is held.train.index
    check(held, late, schedule, delay, length * (3 * count + delay))


def test_after_whatever_makes_phases():
    before = moved(cut())
    for make in (
        lambda: temporal.sudden(before, change=dealt, round=3, spread=4),
        lambda: temporal.gradual(before, change=dealt, begin=2, end=9, phases=4),
        lambda: temporal.recurring(before, changes=[dealt], length=2),
        lambda: temporal.rotating_classes(before, window=1, length=2),
        lambda: temporal.growing(before, length=2, phases=3),
    ):
        held = make()
        late = temporal.label_delay(held, phases=1)
        for split, t in (("train", 0), ("valid", 0), ("test", 1)):
            for a, b in zip(rows_of(late, split, 1), rows_of(held, split, t)):
                np.testing.assert_array_equal(a, b)
        # transforms that stay are kept
        np.testing.assert_allclose(
            seen(late, "train", 1, 0)[0], np.asarray(before.x)[rows_of(late, "train", 1)[0]] + 1, rtol=1e-6
        )
        assert int(late.truth["delay"]) == 1


@pytest.mark.parametrize("delays", [(1,), (2,), (1, 1)])
@pytest.mark.parametrize("schedule", [switch([1, 2, 3]), season(1, 4), season(1, 2, once=2)])
def test_rows_are_seen_as_they_were_when_they_came(schedule, delays):
    """Whatever transforms a phase has; two delays add up."""
    first = cut()
    now = late = phases([first, scaled(dealt(first)), moved(first), scaled(moved(first))], schedule)
    for delay in delays:
        late = temporal.label_delay(late, phases=delay)
    for q in range(4 if isinstance(schedule, Switch) else 9):
        t = int(late.phase(jnp.asarray(q, jnp.int32)))
        for split in ("train", "valid", "test"):
            then = int(schedule(jnp.asarray(q if split == "test" else max(q - sum(delays), 0), jnp.int32)))
            for k in (0, 3):
                for a, b in zip(seen(late, split, t, k), seen(now, split, then, k)):
                    np.testing.assert_array_equal(a, b)


def _fixed():
    return phases(states(2), lambda round_: round_ % 2)


@pytest.mark.parametrize(
    ("federation", "delay", "error", "message"),
    [
        (cut, 1, ValueError, "federation must have phases that follow a Switch or a Season, got 1 of NoneType"),
        (
            _fixed,
            1,
            ValueError,
            "federation must have phases that follow a Switch or a Season, got 2 of Partial",
        ),
        (
            lambda: phases(states(3), switch([2, 4])),
            3,
            ValueError,
            "phases must be < 3, got 3: no label of a later phase would arrive",
        ),
        (lambda: phases(states(2), switch([2])), 0, ValueError, "phases must be >= 1, got 0: it is how many"),
        (lambda: phases(states(2), switch([2])), 1.0, TypeError, "phases must be a whole number, got 1.0"),
        (lambda: cut().pool, 1, TypeError, "federation must be a Federation, got Pool"),
    ],
)
def test_refusals(federation, delay, error, message):
    with pytest.raises(error, match=message):
        temporal.label_delay(federation(), phases=delay)
