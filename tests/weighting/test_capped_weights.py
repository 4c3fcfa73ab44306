"""A largest share: water-filling against a loop and against its own definition, and what is refused when."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.weightings import capped as by_loop
from reference.weightings import divergence
from weighting.weighed import call, cohort_of, weigh

import fedjax_het as fh
from fedjax_het.engine.rounds import draw
from fedjax_het.weighting import buckets, capped, noisy, proportional, unbiased, uniform

SLOTS = 8

quick = settings(max_examples=60, derandomize=True, deadline=None)
sizes = st.lists(
    st.one_of(st.just(0), st.integers(1, 9), st.integers(1, 10**6)), min_size=SLOTS, max_size=SLOTS
)
caps = st.one_of(st.floats(1 / SLOTS, 1), st.sampled_from([1 / m for m in range(1, SLOTS + 1)]))


def share_of(rows):
    rows = np.asarray(rows, np.float64)
    return rows / max(rows.sum(), 1)


@pytest.mark.parametrize(
    ("rows", "cap", "expected"),
    [
        ((100, 1, 1), 0.5, (0.5, 0.25, 0.25)),
        ((1000, 10, 10, 5), 0.4, (0.4, 0.24, 0.24, 0.12)),
        ((50, 40, 5, 5), 0.45, (0.45, 0.44, 0.055, 0.055)),
        ((5, 1, 9), 1 / 3, (1 / 3, 1 / 3, 1 / 3)),
        ((5, 1, 9), 0.6, (5 / 15, 1 / 15, 9 / 15)),
        ((5, 1, 9), 1.0, (5 / 15, 1 / 15, 9 / 15)),
        ((0, 100, 1, 1, 0), 0.5, (0, 0.5, 0.25, 0.25, 0)),
        ((0, 100, 1), 0.4, (0, 0.5, 0.5)),
        ((0, 0), 0.5, (0, 0)),
        ((7,), 1.0, (1,)),
    ],
)
def test_examples(rows, cap, expected):
    np.testing.assert_allclose(weigh(capped(cap), rows), expected, atol=1e-6)


def test_clipping_and_scaling_afterwards_breaks_the_cap():
    clipped = np.minimum((100, 1, 1), 0.5 * 102)
    assert (clipped / clipped.sum()).max() > 0.96
    assert weigh(capped(0.5), (100, 1, 1)).max() <= 0.5 + 1e-6


def test_a_cap_over_all_clients_breaks_on_a_cohort():
    """Scaled over three of six, weights that were capped before exceed the cap; capped there they do not."""
    rows = np.array((200, 20, 18, 15, 12, 9))
    everyone = by_loop(share_of(rows), 0.4)
    assert (everyone[[0, 4, 5]] / everyone[[0, 4, 5]].sum()).max() > 0.65
    assert weigh(capped(0.4), rows[[0, 4, 5]]).max() <= 0.4 + 1e-6


@quick
@given(rows=sizes, cap=caps)
def test_it_is_water_filling(rows, cap):
    with jax.enable_x64(True):
        got = weigh(capped(cap), rows)
    expected = by_loop(share_of(rows), cap)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weigh(capped(cap), rows), expected, rtol=1e-4, atol=1e-6)
    present = np.asarray(rows) > 0
    if present.any():
        assert got.sum() == pytest.approx(1, abs=1e-12)
        assert got.max() <= max(cap, 1 / present.sum()) + 1e-12
        assert (got[present] > 0).all() and (got[~present] == 0).all()
        assert (np.diff(got[np.argsort(rows, kind="stable")]) >= -1e-12).all()  # keeps the order
    else:
        assert (got == 0).all()


@quick
@given(rows=sizes, cap=caps)
def test_twice_is_once(rows, cap):
    with jax.enable_x64(True):
        once = weigh(capped(cap), rows)
        np.testing.assert_allclose(weigh(capped(cap, base=capped(cap)), rows), once, rtol=1e-9, atol=1e-12)


@quick
@given(rows=sizes, cap=caps, change=st.sampled_from([1e-9, 1e-4, 0.1, 1.0]), seed=st.integers(0, 99))
def test_weights_change_no_more_than_twice_as_much_as_sizes(rows, cap, change, seed):
    """|log omega' - log omega| <= 2 max |log n' - log n|: s moves by no more than shares do, without a jump."""
    factor = np.exp(change * np.random.default_rng(seed).uniform(-1, 1, SLOTS))
    with jax.enable_x64(True):
        before, after = weigh(capped(cap), rows), weigh(capped(cap), np.asarray(rows) * factor)
    there = np.asarray(rows) > 0
    assert np.abs(np.log(after[there] / before[there])).max(initial=0) <= 2 * change * (1 + 1e-6) + 1e-9


def test_no_weights_under_the_cap_are_nearer():
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, cap = np.ceil(rng.lognormal(2, 2, 5)), rng.uniform(0.25, 0.6)
        with jax.enable_x64(True):
            best = weigh(capped(cap), rows)
        others = [by_loop(rng.dirichlet(np.ones(5)), cap) for _ in range(50)]
        others += [0.9 * best + 0.1 * other for other in others]
        share = share_of(rows)
        assert min(divergence(other, share) for other in others) >= divergence(best, share) - 1e-12


def test_a_client_drawn_twice_has_its_share_doubled_and_not_its_cap():
    twice = {"multiplicity": (2, 1, 1)}
    np.testing.assert_allclose(weigh(capped(0.9), (2, 1, 1), **twice), (4 / 6, 1 / 6, 1 / 6), atol=1e-6)
    np.testing.assert_allclose(weigh(capped(0.5), (4, 1, 1), **twice), (0.5, 0.25, 0.25), atol=1e-6)
    # doubling a base's weights once more would change this one: 8 : 2 : 1 instead of 4 : 2 : 1
    np.testing.assert_allclose(weigh(capped(0.99), (2, 2, 1), **twice), np.array((4, 2, 1)) / 7, atol=1e-6)


def test_absent_slots_raise_the_cap_to_one_over_those_present():
    present = (True, True, False, False, False)
    np.testing.assert_allclose(
        weigh(capped(0.2), (9, 1, 5, 5, 5), present=present), (0.5, 0.5, 0, 0, 0), atol=1e-6
    )
    np.testing.assert_allclose(
        weigh(capped(0.6), (9, 1, 5, 5, 5), present=present), (0.6, 0.4, 0, 0, 0), atol=1e-6
    )
    # also eagerly, with every number known: only the number of slots decides what is refused
    sizes, cohort = cohort_of((9, 1, 5, 5, 5), present=present)
    np.testing.assert_allclose(capped(0.2)(sizes, cohort), (0.5, 0.5, 0, 0, 0), atol=1e-6)


def test_nothing_of_an_absent_slot_is_read():
    """Not even its size: the weights are those without it, to the bit."""
    present = (True, True, True, False)
    one, other = (weigh(capped(0.4), (9, 1, 1, junk), present=present) for junk in (5, np.nan))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("slots", range(1, 60))
def test_the_smallest_legal_cap_is_legal_as_a_float(slots):
    sizes, cohort = cohort_of(np.arange(1, slots + 1))
    legal, below = capped(1 / slots), capped(0.99 / slots)
    jax.eval_shape(lambda: legal(sizes, cohort))
    with pytest.raises(ValueError, match=rf"cap must be >= 1/{slots} = .* for a cohort of {slots}, got"):
        jax.eval_shape(lambda: below(sizes, cohort))


def federation_of(rows):
    x = np.random.default_rng(0).normal(size=(sum(rows), 2))
    pool = fh.pool(x, np.arange(sum(rows)) % 2, num_classes=2)
    parts = np.split(np.arange(sum(rows)), np.cumsum(rows)[:-1])
    return fh.from_index_lists(pool, None, parts, test=0.0)


def parts(weighting, rows=(20, 3, 4, 5, 6, 7), cohort=4):
    federation = federation_of(rows)
    algorithm = fh.algorithms.fedavg(fh.models.softmax(federation.pool), fh.local.sgd(0.1, batch_size=None))
    round_fn = fh.make_round(fh.sampling.uniform(cohort), fh.executors.looped(), weighting=weighting)
    return algorithm, federation, round_fn


def test_a_cap_too_small_for_the_cohort_is_refused_before_anything_is_compiled():
    algorithm, federation, round_fn = parts(capped(0.2))
    message = r"cap must be >= 1/4 = 0.25 for a cohort of 4, got 0.2: raise it, or draw more clients"
    with pytest.raises(ValueError, match=message):
        fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    options = {"rounds": 1, "sampler": fh.sampling.uniform(4), "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=message):
        fh.simulate(algorithm, federation, weighting=capped(0.2), **options)
    with pytest.raises(ValueError, match=message):  # inside another one too
        fh.simulate(algorithm, federation, weighting=capped(0.9, base=capped(0.2)), **options)
    with pytest.raises(ValueError, match="cap must be >= 1/6"):  # the sampler decides how many there are
        fh.simulate(algorithm, federation, weighting=capped(0.1), rounds=1, key=jax.random.key(0))


def test_trying_the_weighting_compiles_nothing_and_draws_nothing():
    algorithm, federation, round_fn = parts(capped(0.25))
    bare = parts(None)[2]
    key = jax.random.key(3)
    states = [fh.initial_state(algorithm, federation, key=key, round_fn=r) for r in (bare, round_fn)]
    leaves = [
        [np.asarray(jax.random.key_data(x) if x is s.key else x) for x in jax.tree.leaves(s)] for s in states
    ]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    heavy = parts(capped(0.5, base=noisy(0.3, base=buckets(3))))[2]
    with compile_count() as count:
        fh.initial_state(algorithm, federation, key=key, round_fn=heavy)
    assert count.names == []


def test_a_traced_cap_passes_and_is_raised():
    weights = weigh(capped(0.05), (9, 1, 5, 5))
    np.testing.assert_allclose(weights, 0.25, atol=1e-6)


def test_the_cap_holds_in_every_cohort_of_a_run():
    algorithm, federation, round_fn = parts(capped(0.3, base=proportional()), rows=(90, 0, 4, 5, 60, 7))
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    block = jax.jit(
        lambda state, t: draw(round_fn, algorithm, dataclasses.replace(state, round=t), federation)[0]
    )
    seen = []
    for t in range(12):
        cohort = block(state, jnp.asarray(t, jnp.int32))
        weight, present = np.asarray(cohort.weight), np.asarray(cohort.present)
        assert weight.max() <= max(0.3, 1 / present.sum()) + 1e-6 and weight[~present].sum() == 0
        assert weight.sum() == pytest.approx(1, abs=1e-6)
        seen.append(present.sum())
    assert set(seen) == {3, 4}


def test_a_sweep_over_caps_is_not_refused():
    """Inside `vmap` a cap is not known: it is raised where it is too small."""
    algorithm, federation, bare = parts(None)

    def first(cap):
        round_fn = dataclasses.replace(bare, weighting=capped(cap))
        state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        return draw(round_fn, algorithm, state, federation)[0].weight

    weights = jax.jit(jax.vmap(first))(jnp.asarray([0.01, 0.3, 1.0]))
    np.testing.assert_allclose(weights.max(1)[0], 0.25, atol=1e-6)
    assert float(weights.max(1)[1]) <= 0.3 + 1e-6
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


def test_many_caps_at_once_are_each_alone_and_one_program():
    sizes, cohort = cohort_of((50, 40, 5, 5))
    many = jnp.asarray([0.3, 0.45, 1.0])
    got = jax.vmap(lambda cap: capped(cap)(sizes, cohort))(many)
    for weights, cap in zip(got, many):
        np.testing.assert_allclose(weights, weigh(capped(cap), (50, 40, 5, 5)), atol=1e-6)
    before = call._cache_size()
    weigh(capped(0.77), (50, 40, 5, 5))
    assert call._cache_size() == before


def test_over_other_weightings():
    rows = (1000, 10, 9, 5)
    np.testing.assert_allclose(weigh(capped(0.3, base=uniform()), rows), 0.25, atol=1e-6)
    for base in (buckets(), noisy(0.1, seed=1), noisy(0.5, base=buckets(10))):
        share = weigh(base, rows)
        np.testing.assert_allclose(weigh(capped(0.4, base=base), rows), by_loop(share, 0.4), atol=1e-5)
    out = fh.weighting.given([3.0, 0, 2, 1])  # whoever weighs nothing stays out, and does not count
    np.testing.assert_allclose(weigh(capped(0.25, base=out), rows), (1 / 3, 0, 1 / 3, 1 / 3), atol=1e-6)
    mass = weigh(unbiased(), (6, 3, 1), population=6, rows=20)
    assert mass.sum() == pytest.approx(1)
    half = weigh(capped(0.9, base=unbiased()), (6, 3, 1), population=6, rows=40)
    np.testing.assert_allclose(half, (0.6, 0.3, 0.1), atol=1e-6)


@pytest.mark.parametrize("cap", [0, -0.1, 1.5, np.nan, [0.2, 2.0]])
def test_caps_outside_0_and_1_are_refused(cap):
    with pytest.raises(ValueError, match=r"cap must be .* got .*: it is the largest share of one client"):
        capped(cap)


@pytest.mark.parametrize("cap", ["half", None, True])
def test_caps_that_are_no_numbers_are_refused(cap):
    with pytest.raises(TypeError, match="cap must be a number"):
        capped(cap)


@pytest.mark.parametrize("base", [3, "uniform", uniform, lambda sizes, cohort: sizes])
def test_bases_that_are_no_weightings_are_refused(base):
    with pytest.raises(TypeError, match="base must be a weighting, a pytree callable, got"):
        capped(0.5, base=base)
