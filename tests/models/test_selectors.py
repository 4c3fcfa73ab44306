"""Leaf selectors."""

import jax
import numpy as np
import pytest

from fedjax_het import tree
from fedjax_het.models import (
    body,
    head,
    leaf_paths,
    linear,
    matching,
    mlp,
    norm,
    quadratic,
    quadratic_pool,
    select,
)
from fedjax_het.models.selectors import named, under
from fedjax_het.pool import pool


@pytest.fixture
def source():
    return pool(np.zeros((2, 3)), np.array([0, 1]))


@pytest.fixture
def params(source):
    return mlp(source, hidden=(4, 4)).init(jax.random.key(0)).params


def chosen(params, selector):
    return [path for path in leaf_paths(params) if selector(path)]


def test_head_and_body_split_the_tree(source, params):
    problem = mlp(source, hidden=(4, 4))
    assert chosen(params, head(problem)) == ["head/bias", "head/kernel"]
    first, second = select(params, body(problem))
    assert len(jax.tree.leaves(first)) == 4 and len(jax.tree.leaves(second)) == 2
    jax.tree.map(np.testing.assert_array_equal, tree.combine(first, second), params)
    complement = select(params, head(problem))
    assert jax.tree.structure(complement[1]) == jax.tree.structure(first)


def test_matching(params):
    assert chosen(params, matching("^dense_[01]/bias$")) == ["dense_0/bias", "dense_1/bias"]
    assert chosen(params, matching("_1")) == ["dense_1/bias", "dense_1/kernel"]
    with pytest.raises(ValueError, match="regex must be a regular expression"):
        matching("dense_(")


def test_prefixes_are_whole_parts():
    assert under(("head",), "head/kernel") and under(("a/b",), "a/b/c")
    assert not under(("head",), "header/kernel") and not under(("b",), "a/b/c")
    assert named(("b",), "a/b/c") and not named(("b",), "a/bb/c")


def test_selectors_compare_by_value(source):
    problem, again = mlp(source), mlp(source)
    assert head(problem) == head(again) and hash(body(problem)) == hash(body(again))
    assert matching("a") == matching("a") != matching("b")
    assert head(problem) != body(problem)


def test_refuses_a_split_that_is_none(source, params):
    with pytest.raises(ValueError, match=r"got none of them: the leaves are dense_0/bias, .*, head/kernel$"):
        select(params, matching("conv"))
    with pytest.raises(ValueError, match="got all of them"):
        select(params, matching(""))
    targets = pool(np.zeros((2, 3)), np.zeros(2), task="regression")
    problem = linear(targets)
    with pytest.raises(ValueError, match="got all of them: the leaves are head/bias, head/kernel"):
        select(problem.init(jax.random.key(0)).params, head(problem))


def test_refuses_a_problem_without_the_part(source):
    problem = quadratic(quadratic_pool(np.eye(2)[None], np.zeros((1, 2))))
    for selector in (head, body):
        with pytest.raises(ValueError, match=r"got head=\(\) of 'quadratic': pass head="):
            selector(problem)
    with pytest.raises(ValueError, match=r"got norm=\(\) of 'mlp': .*norm="):
        norm(mlp(source))
