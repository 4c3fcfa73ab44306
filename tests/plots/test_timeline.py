"""Phases: what is drawn is what changes, and when."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import concept, label_counts, temporal
from fedjax_het.plots import phase_timeline
from fedjax_het.plots.drift import changed_share, label_totals, phase_by_round
from plots.dealt import federation, told
from plots.drawn import caption, key_words


def permuted(spread: int = 0) -> fh.Federation:
    """Twelve clients of two clusters, of which one exchanges labels from round 4 on."""
    change = functools.partial(concept.permute, clusters=2, moved=3)
    return temporal.sudden(federation((9,) * 12), change=change, round=4, spread=spread)


def test_phases_are_those_of_the_schedule() -> None:
    source = temporal.growing(federation((20, 30)), length=3, phases=4)
    np.testing.assert_array_equal(phase_by_round(source, 14), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])
    steps = phase_timeline(source, rounds=14).axes[0].patches[0].get_data()  # pyright: ignore
    np.testing.assert_array_equal(steps.values, phase_by_round(source, 14))


def test_by_default_a_season_is_seen_twice_and_a_last_phase_for_a_while() -> None:
    season = temporal.rotating_classes(federation((20, 30)), window=1, length=5)
    assert phase_timeline(season).axes[0].get_xlim() == (0, 30)
    switch = temporal.growing(federation((20, 30)), length=8, phases=2)
    assert phase_timeline(switch).axes[0].get_xlim() == (0, 10)
    own = functools.partial(lambda round_: jnp.where(round_ < 40, 0, 1))
    states = [federation((20, 30))] * 2
    assert phase_timeline(fh.phases.phases(states, own)).axes[0].get_xlim() == (0, 50)


def test_labels_are_those_that_clients_see() -> None:
    for source in (permuted(), temporal.rotating_classes(federation((20, 30)), window=1, length=5)):
        expected = [label_counts(source, phase=t).sum(0) for t in range(source.spec.phases)]
        np.testing.assert_array_equal(label_totals(source, split="train"), expected)


def test_areas_stand_on_each_other() -> None:
    source = temporal.growing(federation((20, 30)), length=3, phases=3)
    figure = phase_timeline(source)
    total = label_totals(source, split="train")
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[1].collections]
    np.testing.assert_allclose(tops, np.cumsum(total[-1]))
    assert key_words(figure) == ["2", "1", "0"]


def test_renamed_rows_have_changed() -> None:
    source = permuted()
    cluster = np.asarray(source.truth["state 1/cluster"])
    share = changed_share(source, np.arange(12), split="train")
    np.testing.assert_allclose(share[:, 0], 0)
    np.testing.assert_allclose(share[:, 1], cluster)


def test_clients_change_at_their_own_rounds() -> None:
    source = permuted(spread=6)
    figure = phase_timeline(source, rounds=12)
    image = np.asarray(figure.axes[2].collections[0].get_array())
    changes = np.asarray(source.truth["switch"])[np.asarray(source.truth["state 1/cluster"]) == 1]
    edges = np.unique(np.concatenate([[0], np.asarray(source.truth["switch"])]))
    first = edges[(image > 0).argmax(1)][(image > 0).any(1)]
    np.testing.assert_array_equal(first, np.sort(changes))


def test_rows_that_come_have_changed_and_those_that_stay_have_not() -> None:
    source = temporal.growing(federation((20, 0, 40)), length=3, phases=3, start=0.25)
    share = changed_share(source, np.arange(3), split="train")
    expected = [[0, 1 - 5 / 12, 0.75], [np.nan] * 3, [0, 1 - 10 / 25, 0.75]]
    np.testing.assert_allclose(share, expected)
    assert np.ma.getmaskarray(phase_timeline(source).axes[2].collections[0].get_array()).any()


def test_gradual_changes_are_shares() -> None:
    change = functools.partial(concept.permute, clusters=np.ones(4, int).tolist(), moved=3)
    source = temporal.gradual(federation((300,) * 4), change=change, begin=2, end=6, phases=4)
    share = changed_share(source, np.arange(4), split="train")
    np.testing.assert_allclose(share, np.broadcast_to([0, 0.25, 0.5, 0.75, 1], (4, 5)), atol=0.1)


def test_many_clients_and_many_classes_are_drawn() -> None:
    source = temporal.growing(federation((5,) * 10_000, 30), length=2, phases=3)
    figure = phase_timeline(source)
    assert np.asarray(figure.axes[2].collections[0].get_array()).shape == (200, 3)
    assert "200 of 10,000 clients" in caption(figure)
    assert len(key_words(figure)) == 13 and key_words(figure)[0] == "others"


def test_without_labels_rows_are_drawn() -> None:
    data = [(np.ones((30, 2)), np.arange(30.0))] * 2
    regression = fh.from_clients(data, task="regression", test=0.0)
    figure = phase_timeline(temporal.growing(regression, length=2, phases=2))
    assert len(figure.axes[1].collections) == 1 and not figure.legends


def test_what_never_changes_says_so() -> None:
    states = [federation((4, 5))] * 2
    assert "Nothing differs" in caption(phase_timeline(fh.phases.phases(states, fh.phases.switch([3]))))


def test_bad_input_is_named() -> None:
    with pytest.raises(TypeError, match="must be a Federation"):
        phase_timeline("digits")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="must have phases"):
        phase_timeline(told(federation()))
    with pytest.raises(ValueError, match="split must be one of"):
        phase_timeline(permuted(), split="all")
    with pytest.raises(ValueError, match="rounds must be"):
        phase_timeline(permuted(), rounds=0)
