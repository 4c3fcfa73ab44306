"""Counts of labels and rows: phases, splits, transforms, and what has no labels."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity.counts import held_rows, label_counts, labelled, pool_counts, row_chunk, sizes_of
from fedjax_het.phases import phases, switch


def federation_of(lists, classes=3, test=0.0):
    rows = 1 + max(max(part, default=0) for part in lists)
    source = fh.pool(np.ones((rows, 2)), np.arange(rows) % classes, num_classes=classes)
    return fh.from_index_lists(source, None, lists, test=test)


def moved(x, y, turn, row):
    """Labels moved on by `turn`."""
    return x, (y + turn) % 3


def test_counts_of_ragged_clients():
    federation = federation_of([[0, 1, 3], [], [2, 5, 8, 4]])
    np.testing.assert_array_equal(label_counts(federation), [[2, 1, 0], [0, 0, 0], [0, 1, 3]])
    assert sizes_of(federation).tolist() == [3, 0, 4]
    assert sizes_of(federation, split="test").tolist() == [0, 0, 0]
    assert label_counts(federation, split="test").sum() == 0
    owner, row = held_rows(federation)
    assert owner.tolist() == [0, 0, 0, 2, 2, 2, 2] and row.tolist() == [0, 1, 3, 2, 5, 8, 4]


def test_transforms_are_seen_and_can_be_left_out():
    federation = federation_of([list(range(40)), [40, 41], []])
    turned = dataclasses.replace(
        federation, transforms=(fh.Transform(jnp.asarray([[0, 1, 2]], jnp.int32), moved),)
    )
    before = label_counts(federation)
    after = before.copy()
    after[1] = np.roll(before[1], 1)
    np.testing.assert_array_equal(label_counts(turned), after)
    np.testing.assert_array_equal(pool_counts(turned), before)


def test_phases_are_told_apart():
    first, second = federation_of([[0, 1], [2, 5]]), federation_of([[3, 4, 5], [1]])
    both = phases([first, dataclasses.replace(second, x=first.x, y=first.y)], switch([4]))
    np.testing.assert_array_equal(label_counts(both, phase=0), [[1, 1, 0], [0, 0, 2]])
    np.testing.assert_array_equal(label_counts(both, phase=1), [[1, 1, 1], [0, 1, 0]])
    assert sizes_of(both, phase=1).tolist() == [3, 1]


def test_arguments_of_a_transform_that_change_with_the_phase():
    federation = federation_of([[0, 1, 3]])
    turned = fh.Transform(jnp.asarray([[0], [1]], jnp.int32), moved)
    federation = dataclasses.replace(
        federation, transforms=(turned,), spec=dataclasses.replace(federation.spec, phases=2)
    )
    assert label_counts(federation, phase=1).tolist() == [[0, 2, 1]]


def test_a_step_is_about_a_client():
    assert [row_chunk(np.array(size)) for size in ([0, 0], [5], [100, 0, 20], [10**6])] == [16, 16, 64, 256]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"phase": 1}, ValueError, "phase must be < 1, got 1"),
        ({"phase": -1}, ValueError, "phase must be >= 0, got -1"),
        ({"phase": 0.0}, TypeError, "phase must be a whole number"),
        ({"split": "trian"}, ValueError, "split must be one of .* did you mean 'train'"),
    ],
)
def test_refusals(change, error, message):
    for count in (label_counts, sizes_of):
        with pytest.raises(error, match=message):
            count(federation_of([[0, 1]]), **change)


def test_what_has_no_labels_is_refused():
    regression = fh.from_clients([(np.ones((4, 1)), np.ones(4))], task="regression", test=0.0)
    assert not labelled(regression) and sizes_of(regression).tolist() == [4]
    with pytest.raises(ValueError, match="one label a row, got task 'regression'"):
        label_counts(regression)
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool"):
        sizes_of(regression.pool)
