"""Every bound that claims to hold does, against exact expectations, on random quadratic federations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import local_moments

from fedjax_het.analysis import bounds, constants, oracles

T = 12
SWEEP = settings(max_examples=200, deadline=None, derandomize=True, database=None)
LOOSE = 1 + 1e-9


@st.composite
def problems(draw, *, noisy=True, equal=False, alike=False):
    """(A, a, p, noise, start, E): three clients in the plane, curvatures over three decades."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 1.0, 3.0]))
    turns = np.linalg.qr(rng.normal(size=(3, 2, 2)))[0]
    values = 10 ** rng.uniform(-spread, 0, size=(3, 2)) * 10 ** draw(st.floats(-1, 1))
    A = np.einsum("kij,kj,klj->kil", turns, values, turns)
    A = np.repeat(A[:1], 3, axis=0) if alike else A
    a = rng.normal(size=(3, 2)) * draw(st.sampled_from([0.0, 0.3, 3.0]))
    p = np.full(3, 1 / 3) if equal else rng.dirichlet(np.full(3, draw(st.sampled_from([0.3, 3.0]))))
    factor = rng.normal(size=(3, 2, 2)) * (draw(st.sampled_from([0.0, 0.1, 1.0])) if noisy else 0)
    start = rng.normal(size=2) * draw(st.sampled_from([0.0, 1.0, 10.0]))
    return (
        A,
        a,
        np.maximum(p, 1e-3) / np.maximum(p, 1e-3).sum(),
        factor @ factor.swapaxes(1, 2),
        start,
        draw(st.sampled_from([1, 2, 3, 4, 6, 12])),
    )


fractions = st.sampled_from([1.0, 0.9, 0.3, 0.01])


def known(problem):
    A, a, p, noise, start, _ = problem
    functions = oracles.Quadratics(A, np.einsum("kij,kj->ki", A, a), p)
    return constants.of_quadratics(functions, start, noise)


def run(problem, rates, **scheme):
    *functions, local_steps = problem
    return local_moments.follow(*functions, np.broadcast_to(rates, T), local_steps, **scheme)


def with_gradients(facts, told):
    return constants.replace(facts, provenance="trajectory_max", li_G_sq=told["largest"])


def holds(curve, measured):
    """The curve claims to hold, and does."""
    assert curve.validity == () and curve.may_hold and curve.tag in ("S", "D")
    measured = np.asarray(measured)
    rounding = 1e-12 * (1 + measured.max())
    assert np.all(measured <= curve.values * LOOSE + rounding), curve.ratio(measured).max()
    np.testing.assert_allclose(sum(curve.terms.values()), curve.values)


def so_far(values, local_steps):
    """Means over the steps before each averaging."""
    return (np.cumsum(values) / np.arange(1, T + 1))[local_steps - 1 :: local_steps]


@SWEEP
@given(problems(), st.integers(1, 3))
def test_li_theorems_1_and_2(problem, clients):
    facts, E = known(problem), problem[-1]
    schedule = bounds.li2020.step_sizes(facts, E)
    rates = 2 / (facts.mu.value * (max(8 * facts.L.value / facts.mu.value, E) + np.arange(T)))
    told = run(problem, rates)
    holds(bounds.li2020.theorem1(with_gradients(facts, told), schedule, E, T), told["gap"])
    told = run(problem, rates, scheme="I", clients=clients)
    curve = bounds.li2020.theorem2(with_gradients(facts, told), schedule, E, T, clients=clients)
    holds(curve, told["gap"])


@SWEEP
@given(problems(equal=True), problems(), st.integers(1, 3))
def test_li_theorem_3_also_transformed(even, other, clients):
    facts, E = known(even), even[-1]
    rates = 2 / (facts.mu.value * (max(8 * facts.L.value / facts.mu.value, E) + np.arange(T)))
    told = run(even, rates, scheme="II", clients=clients)
    curve = bounds.li2020.theorem3(with_gradients(facts, told), lambda s: rates, E, T, clients=clients)
    holds(curve, told["gap"])

    A, a, p, noise, start, E = other
    facts, scale = known(other), 3 * p
    mu, L = scale.min() * facts.mu.value, scale.max() * facts.L.value
    rates = 2 / (mu * (max(8 * L / mu, E) + np.arange(T)))
    stretched = (A * scale[:, None, None], a, np.full(3, 1 / 3), noise * scale[:, None, None] ** 2, start, E)
    told = run(stretched, rates, scheme="II", clients=clients)
    own = told["largest"] / scale.min() ** 2  # at least the largest of the F_k's own gradients
    facts = constants.replace(facts, provenance="trajectory_max", li_G_sq=own)
    curve = bounds.li2020.theorem3(facts, lambda s: rates, E, T, clients=clients, transformed=True)
    holds(curve, told["gap"])


@SWEEP
@given(problems(), fractions, st.integers(1, 3))
def test_e1_e1f_and_e2_at_constant_steps(problem, fraction, clients):
    facts, E = known(problem), problem[-1]
    gamma = fraction / (6 * facts.L.value * E)
    means = so_far(run(problem, gamma)["mean_gap"], E)
    holds(bounds.explicit.e1f(facts, gamma, E, T), means)
    gamma = fraction / (4 * facts.L.value * E)
    holds(bounds.explicit.e1(facts, gamma, E, T), run(problem, gamma)["distance"])
    curve = bounds.explicit.e2(facts, gamma / 4, E, T, clients=clients)
    holds(curve, run(problem, gamma / 4, scheme="I", clients=clients)["distance"])


@SWEEP
@given(problems(equal=True), fractions, st.integers(1, 3), st.floats(0.1, 1))
def test_e2_without_replacement_and_e1_at_changing_steps(problem, fraction, clients, decay):
    facts, E = known(problem), problem[-1]
    gamma = fraction / (16 * facts.L.value * E)
    curve = bounds.explicit.e2(facts, gamma, E, T, clients=clients, scheme="II")
    holds(curve, run(problem, gamma, scheme="II", clients=clients)["distance"])
    rates = 4 * gamma * np.random.default_rng(clients).uniform(decay, 1, T)
    holds(bounds.explicit.e1(facts, lambda s: rates, E, T), run(problem, rates)["distance"])


@SWEEP
@given(problems(noisy=False), fractions)
def test_khaled_2019(problem, fraction):
    facts, E = known(problem), problem[-1]
    gamma = fraction / (4 * facts.L.value * E)
    told = run(problem, gamma)
    means = np.cumsum(told["mean"], axis=0) / np.arange(1, T + 1)[:, None] - told["optimum"]
    gap = np.einsum("ti,ij,tj->t", means, told["H"], means)[E - 1 :: E] / 2
    holds(bounds.khaled.local_gd(facts, gamma, E, T), gap)


@SWEEP
@given(problems(equal=True), fractions)
def test_yu_2019(problem, fraction):
    facts, E = known(problem), problem[-1]
    gamma = fraction / facts.L.value
    told = run(problem, gamma)
    curve = bounds.yu2019.yu2019(with_gradients(facts, told), gamma, E, T)
    holds(curve, so_far(told["mean_slope"], E))


@SWEEP
@given(problems(alike=True), fractions)
def test_equal_curvatures_know_no_local_steps(problem, fraction):
    facts, E = known(problem), problem[-1]
    gamma = fraction * 2 / (facts.L.value + facts.mu.value)
    told = run(problem, gamma)
    holds(bounds.iid.equal_curvatures(facts, gamma, E, T), told["distance"])
    once = run((*problem[:-1], 1), gamma)["distance"][::E]
    np.testing.assert_allclose(told["distance"], once, rtol=1e-9, atol=1e-12 * (1 + once.max()))


@pytest.mark.parametrize("condition", [1e3, 1e8, 1e12])
@pytest.mark.parametrize("fraction", [1e-3, 1.0])
def test_nearly_flat_functions(condition, fraction):
    """Noise along the flattest direction adds up: its bound is attained, and must not lose digits."""
    A = np.repeat(np.diag([1.0, 1 / condition])[None], 3, axis=0)
    noise = np.repeat(np.diag([0.0, 1.0])[None], 3, axis=0)
    problem = (A, np.zeros((3, 2)), np.full(3, 1 / 3), noise, np.zeros(2), 4)
    facts = known(problem)
    assert 0 < facts.mu.value <= 2 / condition
    gamma = fraction * 2 / (facts.L.value + facts.mu.value)
    measured = run(problem, gamma)["distance"]
    curve = bounds.iid.equal_curvatures(facts, gamma, 4, T)
    holds(curve, measured)
    np.testing.assert_allclose(curve.values, measured, rtol=1e-6)
    gamma = fraction / 16
    curve = bounds.explicit.e1(facts, gamma, 4, T)
    holds(curve, run(problem, gamma)["distance"])
    mean = gamma * (4 * gamma**2 * 3 + gamma / 3)  # what a step adds where mu is next to nothing
    np.testing.assert_allclose(curve.values, mean * curve.steps, rtol=1e-9 + 12 * gamma / condition)


@SWEEP
@given(problems(), fractions)
def test_equal_clients(problem, fraction):
    A, a, *rest = problem
    problem = (A, np.repeat(a[:1], 3, axis=0), *rest)
    facts, E = known(problem), problem[-1]
    gamma = fraction / (4 * facts.L.value * E)
    holds(bounds.iid.equal_clients(facts, gamma, E, T), run(problem, gamma)["distance"])


@SWEEP
@given(problems(), st.lists(st.integers(1, 20), min_size=3, max_size=3))
def test_inconsistency_of_unequal_work(problem, work):
    A, a, p, *_ = problem
    facts = known(problem)
    weights, _ = bounds.fednova.mismatch(p, work)
    points = np.random.default_rng(work[0]).normal(size=(8, 2))
    g = np.einsum("kij,rkj->rki", A, points[:, None] - a)
    mean, surrogate = np.einsum("k,rki->ri", p, g), np.einsum("k,rki->ri", weights, g)
    size = np.sum(surrogate**2, axis=1)
    kappa = np.max(np.einsum("k,rki->r", weights, g**2) - 1.5 * size)
    curve = bounds.fednova.inconsistency(facts, work, size, beta_sq=1.5, kappa_sq=max(kappa, 0))
    holds(curve, np.sum(mean**2, axis=1))


@SWEEP
@given(problems(equal=True), fractions)
def test_one_round_of_karimireddy_is_not_violated_but_does_not_claim_to_hold(problem, fraction):
    facts, E = known(problem), problem[-1]
    gamma = fraction / (24 * facts.L.value * E)
    told = local_moments.follow(*problem[:-1], np.full(E, gamma), E)
    curve = bounds.karimireddy.one_round(facts, gamma, E, drift=told["drift"].mean())
    assert not curve.may_hold and curve.validity == ()
    assert told["distance"][-1] <= curve.values[0] * LOOSE + 1e-12 * told["distance"][0]


@pytest.mark.parametrize("local_steps", [1, 5])
def test_the_moments_are_those_of_the_oracle(local_steps, x64):
    """Without noise the reference follows the oracle's path."""
    rng = np.random.default_rng(0)
    A = np.einsum("kij,klj->kil", *(rng.normal(size=(3, 2, 2)),) * 2) + np.eye(2)
    a, p, start = rng.normal(size=(3, 2)), np.array([0.2, 0.3, 0.5]), np.array([2.0, -1.0])
    told = local_moments.follow(A, a, p, np.zeros((3, 2, 2)), start, np.full(20, 0.05), local_steps)
    functions = oracles.quadratics(A, a, weights=p)
    path = oracles.fedavg(functions, learning_rate=0.05, steps=local_steps).trajectory(start, 20 // local_steps)
    away = np.sum((np.asarray(path) - np.asarray(functions.optimum)) ** 2, axis=1)
    np.testing.assert_allclose(told["distance"], away, rtol=1e-9)
