"""Transforms: checked when added, carried out for a share of the rows, merged over states, recorded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from heterogeneity.temporal.timed import add, cut, moved, rows_of, scaled, seen
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.phases import phases, switch
from fedjax_het.transforms import merged, numbers, partly, recorded, times, transformed, uniform


def test_names_that_are_taken_are_numbered():
    truth = recorded(recorded({"size": 1}, angle=[1.0]), angle=[2.0], gain=[3])
    assert list(truth) == ["size", "angle", "angle/2", "gain"]
    assert list(recorded(truth, angle=0)) == [*truth, "angle/3"]
    assert times(truth, "angle") == 2 and times(truth, "ang") == 0 and times(truth, "gain") == 1


def test_a_shift_that_was_applied_in_one_state_counts():
    """So that the same shift on top of it draws anew."""
    held = phases([cut(), moved(cut())], switch([1]))
    assert times(held.truth, "moved") == 1
    again = moved(held)
    assert times(again.truth, "moved") == 2 and "moved" in again.truth


def test_truths_are_numbers():
    with pytest.raises(TypeError, match=r"truth\['who'\] must hold numbers, got dtype <U1: number the names"):
        numbers("who", ["a"])


@settings(max_examples=25, derandomize=True, deadline=None)
@given(share=st.floats(0, 1, width=32), salt=st.integers(0, 2**32 - 1))
def test_a_share_of_the_rows_changes(share, salt):
    row, x = jnp.arange(4000, dtype=jnp.int32), jnp.zeros((4000, 2))
    transform = partly(
        fh.Transform(jnp.ones((1, 1)), add),
        jnp.asarray([[share]], jnp.result_type(float)),
        jnp.asarray([[salt]], jnp.uint32),
    )
    new, _ = transform.function(x, row, jax.tree.map(lambda leaf: leaf[0, 0], transform.arguments), row)
    new = np.asarray(new)
    assert set(np.unique(new)) <= {0.0, 1.0} and np.all(new[:, 0] == new[:, 1])
    # six standard deviations of a binomial share
    assert abs(new[:, 0].mean() - share) <= 6 * np.sqrt(share * (1 - share) / 4000) + 1e-6
    assert share not in (0.0, 1.0) or np.all(new == share)


def test_rows_that_are_changed_stay_changed():
    row, salt = jnp.arange(1000, dtype=jnp.int32), jnp.asarray(7, jnp.uint32)
    draw = np.asarray(uniform(row, salt))
    assert draw.min() >= 0 and draw.max() < 1
    share, salt = jnp.asarray([[0.2, 0.5], [0.6, 0.5]]), jnp.asarray([[1, 2]], jnp.uint32)
    grown = partly(fh.Transform(jnp.ones((1, 2)), add), share, salt)
    held = transformed(phases([cut((400, 400))] * 2, switch([1])), grown)
    for k, (low, high) in enumerate(((0.2, 0.6), (0.5, 0.5))):
        plain = np.asarray(held.x)[rows_of(held, "train")[k]]
        changed = [np.any(seen(held, "train", t, k)[0] != plain, axis=1) for t in (0, 1)]
        assert np.all(changed[1][changed[0]])
        # 240 rows: six standard deviations are 0.19
        assert abs(changed[0].mean() - low) < 0.19 and abs(changed[1].mean() - high) < 0.19


def test_draws_of_rows_are_uniform_and_those_of_clients_independent():
    row = jnp.arange(20000, dtype=jnp.int32)
    draws = np.stack([np.asarray(uniform(row, jnp.asarray(salt, jnp.uint32))) for salt in (0, 1, 2, 2**31)])
    for draw in draws:
        counts = np.bincount((draw * 20).astype(int), minlength=20)
        # chi-square of 19 degrees of freedom: above 60 once in 10 million
        assert ((counts - 1000) ** 2 / 1000).sum() < 60
    off = np.corrcoef(draws) - np.eye(4)
    assert np.abs(off).max() < 6 / np.sqrt(20000)


def test_merged_chains_keep_every_order():
    held = cut()
    a, b = (make(held).transforms[0] for make in (moved, scaled))
    chains = [(a, b), (b, a), (), (b,), (a, a)]
    one = merged(chains, 5)
    for t, chain in enumerate(chains):
        x, y, row = jnp.ones((1, 4)), jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32)
        expected, got = x, x
        for transform in chain:
            expected, _ = transform.function(expected, y, transform.of(jnp.asarray(0), jnp.asarray(2)), row)
        for transform in one:
            got, _ = transform.function(got, y, transform.of(jnp.asarray(t), jnp.asarray(2)), row)
        np.testing.assert_array_equal(got, expected)


def test_chains_that_are_alike_merge_into_themselves():
    held = scaled(moved(cut()))
    one = merged([held.transforms] * 3, 5)
    assert all(a.arguments is b.arguments for a, b in zip(one, held.transforms))


def test_numpy_arguments_become_leaves():
    held = transformed(cut(), fh.Transform(np.ones((1, 5), np.float32), add))
    assert isinstance(held.transforms[0].arguments, jax.Array)
    seen(held, "train", 0, 0)


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (lambda: add, TypeError, "transforms must list Transforms, got function"),
        (lambda: fh.Transform(1.0, add), ValueError, r"arguments of shape \[T, 5, ...\], got \(\)"),
        (
            lambda: fh.Transform(jnp.ones((1, 4)), add),
            ValueError,
            r"arguments of shape \[T, 5, ...\], got \(1, 4\)",
        ),
        (lambda: fh.Transform(jnp.ones((2, 5)), add), ValueError, "arguments for 1 or 1 phases, got 2"),
        (
            lambda: fh.Transform(jnp.ones((1, 5)), lambda x, y, a, row: (x[:, :1], y)),
            ValueError,
            "transforms must keep shapes and dtypes .* from '<lambda>': return x and y as they came",
        ),
        (
            lambda: fh.Transform(jnp.ones((1, 5)), lambda x, y, a: (x, y)),
            ValueError,
            "transforms must take rows of shape .* got an error of '<lambda>'",
        ),
    ],
)
def test_refusals(transform, error, message):
    with pytest.raises(error, match=message):
        transformed(cut(), transform())


def test_refuses_what_is_no_federation():
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool: deal a pool out first"):
        transformed(cut().pool, fh.Transform(jnp.ones((1, 5)), add))
