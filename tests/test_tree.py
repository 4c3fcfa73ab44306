"""Arithmetic on trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het import tree

A = {"w": jnp.array([1.0, 2.0]), "b": [jnp.array(3.0)]}
B = {"w": jnp.array([4.0, -1.0]), "b": [jnp.array(0.5)]}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(one, other)


def test_arithmetic():
    same(tree.add(A, B), {"w": jnp.array([5.0, 1.0]), "b": [jnp.array(3.5)]})
    same(tree.subtract(A, B), {"w": jnp.array([-3.0, 3.0]), "b": [jnp.array(2.5)]})
    same(tree.scale(2, A), {"w": jnp.array([2.0, 4.0]), "b": [jnp.array(6.0)]})
    assert float(tree.dot(A, B)) == 4 - 2 + 1.5
    assert float(tree.sum_of_squares(A)) == 14
    assert float(tree.sum_of_squares(())) == 0


def test_scaling_keeps_each_leafs_type():
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "whole": jnp.ones(2, jnp.float32)}
    scaled = tree.scale(jnp.float32(0.5), mixed)
    assert scaled["half"].dtype == jnp.bfloat16 and scaled["whole"].dtype == jnp.float32


def test_an_average_over_nobody_is_zero():
    same(tree.divide(A, jnp.array(2.0)), tree.scale(0.5, A))
    same(tree.divide(A, jnp.array(0.0)), tree.zeros_like(A))
    slope = jax.grad(lambda by: tree.sum_of_squares(tree.divide(A, by)))(jnp.array(0.0))
    assert np.isfinite(slope)


def test_what_is_not_chosen_leaves_no_trace():
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), A)
    same(tree.where(jnp.array(True), A, bad), A)
    same(tree.where(jnp.array(False), bad, A), A)
    keys = jax.random.split(jax.random.key(0), 2)
    assert tree.where(jnp.array(True), keys[0], keys[1]) == keys[0]


def test_all_finite_looks_at_floats_only():
    assert bool(tree.all_finite({"a": jnp.arange(3), "b": jnp.ones(2)}))
    assert bool(tree.all_finite(()))
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        assert not bool(tree.all_finite({"a": jnp.arange(3), "b": jnp.array([1.0, value])}))


def test_rows_of_the_client_axis():
    rows = {"w": jnp.arange(6.0).reshape(3, 2)}
    np.testing.assert_array_equal(tree.take(rows, jnp.array([2, 0]))["w"], [[4, 5], [0, 1]])
    np.testing.assert_array_equal(tree.take(rows, jnp.array([3]))["w"], [[4, 5]])
    new = tree.put(rows, jnp.array([1, 3]), {"w": jnp.array([[9.0, 9], [8, 8]])})
    np.testing.assert_array_equal(new["w"], [[0, 1], [9, 9], [4, 5]])
    stacked = tree.stack(A, 3)
    assert stacked["w"].shape == (3, 2) and stacked["b"][0].shape == (3,)


def test_bytes():
    assert tree.num_bytes(A) == 12
    assert tree.num_bytes(jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)) == 12
    assert tree.num_bytes(()) == 0


@pytest.mark.parametrize("chosen", [("dense_0/kernel",), ("head/kernel", "head/bias"), (), None])
def test_partition_is_exact(chosen):
    params = {
        "dense_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)},
        "head": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.ones(3)},
    }
    seen = []

    def pick(path):
        seen.append(path)
        return chosen is None or path in chosen

    first, second = tree.partition(params, pick)
    assert sorted(seen) == ["dense_0/bias", "dense_0/kernel", "head/bias", "head/kernel"]
    count = 4 if chosen is None else len(chosen)
    assert len(jax.tree.leaves(first)) == count and len(jax.tree.leaves(second)) == 4 - count
    same(tree.combine(first, second), params)
    same(tree.combine(second, first), params)


def test_absent_leaves_take_part_in_nothing():
    first, second = tree.partition(A, lambda path: path == "w")
    same(tree.add(first, first), tree.partition(tree.scale(2, A), lambda path: path == "w")[0])
    assert float(tree.dot(second, second)) == 9
    assert first["b"][0] == tree.Absent() and repr(first["b"][0]) == "Absent"
    assert hash(tree.Absent()) == hash(tree.Absent())
    doubled = jax.jit(lambda part: tree.scale(2, part))(first)
    same(tree.combine(doubled, second), {"w": 2 * A["w"], "b": A["b"]})
