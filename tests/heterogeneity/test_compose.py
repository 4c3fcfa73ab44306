"""Steps one after the other: what they make, that they are independent, and errors that name the step."""

import inspect
from functools import partial

import jax
import numpy as np
import pytest
from heterogeneity.temporal.timed import cut, dealt, moved, scaled, seen
from probes.blobs import blobs

import fedjax_het as fh
from fedjax_het.heterogeneity import Steps, compose, concept, feature, label, temporal

DEAL = partial(label.dirichlet, clients=6, alpha=0.5, seed=4)
AFFINE = partial(feature.affine, spread=1.0)


def test_steps_are_applied_in_order():
    first = cut()
    made = compose(moved, scaled)(first)
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(scaled(moved(first)))):
        np.testing.assert_array_equal(a, b)
    x = np.asarray(first.x)[np.asarray(first.train.index)[: int(first.train.size[0, 0])]]
    np.testing.assert_allclose(seen(made, "train", 0, 0)[0], 3 * (x + 1), rtol=1e-6)
    np.testing.assert_allclose(seen(compose(scaled, moved)(first), "train", 0, 0)[0], 3 * x + 1, rtol=1e-6)


def test_from_a_pool_to_a_federation_that_changes():
    make = compose(
        DEAL,
        partial(feature.gaussian, spread=1.0, seed=4),
        partial(temporal.sudden, change=partial(concept.swap, rate=1.0), round=2),
    )
    assert isinstance(make, Steps) and len(make.steps) == 3
    held, again = make(blobs(200)), make(blobs(200))
    assert held.num_clients == 6 and held.spec.phases == 2
    assert {"drawn", "shift", "switch", "state 1/permutation"} <= set(held.truth)
    for a, b in zip(jax.tree.leaves(held), jax.tree.leaves(again)):
        np.testing.assert_array_equal(a, b)


def test_composed_steps_are_steps_and_changes():
    first = cut()
    nested = compose(compose(dealt, moved), scaled)(first)
    for a, b in zip(jax.tree.leaves(nested), jax.tree.leaves(scaled(moved(dealt(first))))):
        np.testing.assert_array_equal(a, b)
    late = temporal.sudden(first, change=compose(dealt, moved), round=1)
    np.testing.assert_array_equal(seen(late, "train", 1, 3)[0], seen(moved(dealt(first)), "train", 0, 3)[0])


def test_steps_of_the_same_seed_are_independent():
    """What one step draws neither depends on the others nor is it drawn twice."""
    pool = blobs(400)
    deal, shift = partial(label.dirichlet, clients=50, alpha=1.0), feature.affine
    alone = shift(deal(pool, seed=7), spread=1.0, seed=7)
    twice = compose(
        partial(deal, seed=7), partial(shift, spread=1.0, seed=7), partial(shift, spread=1.0, seed=7)
    )(pool)
    np.testing.assert_array_equal(twice.truth["gain"], alone.truth["gain"])
    one, two = (np.log(np.asarray(twice.truth[name])) for name in ("gain", "gain/2"))
    begins = np.asarray(
        compose(partial(deal, seed=7), partial(temporal.sudden, change=dealt, round=0, spread=50, seed=7))(
            pool
        ).truth["switch"]
    )
    # fifty clients: a correlation above 0.7 has probability below 1e-7 if there is none
    for a, b in ((one, two), (one, begins), (two, begins), (np.asarray(alone.truth["drawn"])[:, 0], one)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.7


def test_a_shift_on_top_of_the_same_one_in_a_change_draws_anew():
    shift = partial(feature.affine, spread=1.0)
    held = compose(partial(temporal.sudden, change=shift, round=2), shift)(cut((4,) * 50))
    one, two = np.asarray(held.truth["state 1/gain"]), np.asarray(held.truth["gain"])
    assert abs(np.corrcoef(np.log(one), np.log(two))[0, 1]) < 0.7


@pytest.mark.parametrize(
    ("steps", "source", "error", "message"),
    [
        (
            [moved, partial(temporal.growing, length=0, phases=2)],
            cut,
            ValueError,
            r"^step 2 \(growing\): length must be >= 1, got 0",
        ),
        (
            [AFFINE],
            lambda: blobs(9),
            TypeError,
            r"^step 1 \(affine\): federation must be a Federation, got Pool",
        ),
        (
            [DEAL, partial(label.dirichlet, alpha=0.5, clients=9)],
            lambda: blobs(90),
            ValueError,
            r"^step 2 \(dirichlet\): clients must be ",
        ),
        (
            [
                partial(temporal.recurring, changes=[dealt], length=1),
                partial(temporal.growing, length=1, phases=2),
            ],
            cut,
            ValueError,
            r"^step 2 \(growing\): federation must have one phase for this, got 2: apply what changes",
        ),
        (
            [moved, lambda f: f.pool, moved],
            cut,
            TypeError,
            r"^step 2 \(<lambda>\) must return a Federation, got P",
        ),
        (
            [compose(moved, lambda f: 3)],
            cut,
            TypeError,
            r"^step 1 \(compose\): step 2 \(<lambda>\) must return",
        ),
        ([moved], lambda: 5, TypeError, "^source must be a Pool or a Federation, got int: build one"),
    ],
)
def test_errors_name_the_step(steps, source, error, message):
    with pytest.raises(error, match=message):
        compose(*steps)(source())


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ([], ValueError, "steps must list at least one, got none: pass a partitioner or a shift"),
        ([moved, "rotate"], TypeError, "step 2 must be a function, got 'rotate': fix its options by"),
        ([[moved]], TypeError, r"step 1 must be a function, got \["),
        (
            [DEAL, temporal.growing],
            TypeError,
            r"step 2 \(growing\) must be a function of what it changes alone, got one with missing .*'length'",
        ),
        ([lambda: None], TypeError, r"step 1 \(<lambda>\) must be a function of what it changes alone"),
    ],
)
def test_refusals_before_any_work(steps, error, message):
    with pytest.raises(error, match=message):
        compose(*steps)


def test_other_errors_bear_the_step_as_a_note():
    with pytest.raises(AttributeError) as caught:
        compose(moved, lambda federation: federation.nothing)(cut())
    assert caught.value.__notes__ == ["raised by step 2 (<lambda>)"]


def test_the_example_of_the_docstring_names_what_exists():
    text = inspect.getdoc(compose) or ""
    for name in ("label.dirichlet", "feature.rotate", "temporal.sudden", "concept.swap"):
        assert name in text
        module, function = name.split(".")
        assert callable(getattr(getattr(fh.heterogeneity, module), function))
