"""Bounds outside their assumptions: bad numbers named by each, and the nearest legal value is legal."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_bounds import BASE, LEGAL, LI, QUIET, ROUNDS, E, T, changed

from fedjax_het.analysis import bounds as b
from fedjax_het.analysis import constants, oracles
from fedjax_het.analysis.bounds.conditions import at_least, at_most
from fedjax_het.local import schedules

ANY = ("yu 2019", "karimireddy, nonconvex", "scaffold, nonconvex", "fedprox", "fedadagrad", "tutorial")
CONVEX = [name for name in LEGAL if name not in ANY]


@pytest.mark.parametrize("name", CONVEX)
def test_functions_that_are_not_convex_are_refused_by_bounds_of_convex_ones(name):
    bound, known, schedule, _ = LEGAL[name]
    known = constants.replace(known, provenance="exact", lower_curvature=0.3)
    curve = bound(known, schedule, E, ROUNDS if name == "karimireddy" else T)
    assert [one for one in curve.validity if one.startswith("convexity: ")] and not curve.may_hold
    assert np.isnan(curve.values).all()


@pytest.mark.parametrize("name", [name for name in LEGAL if name not in CONVEX])
def test_the_others_take_them(name):
    bound, known, schedule, _ = LEGAL[name]
    known = constants.replace(known, provenance="exact", lower_curvature=0.3)
    assert bound(known, schedule, E, T).validity == ()


READS_MU = [
    n
    for n in CONVEX
    if n.startswith(("li theorem", "e1", "e2", "khaled 2020, id", "equal")) and n not in ("e1f", "li theorem 4")
]


@pytest.mark.parametrize(
    "name",
    [*READS_MU, "karimireddy", "one round", "scaffold", "scaffold, quadratics", "koloskova", "minibatch"],
)
def test_mu_above_smoothness_is_refused(name):
    bound, known, schedule, _ = LEGAL[name]
    known = constants.replace(known, provenance="exact", mu=4.1)
    curve = bound(known, schedule, E, ROUNDS if name == "karimireddy" else T)
    assert any(one.startswith("curvatures: mu must be <= L = 4, got 4.1") for one in curve.validity)
    assert np.isnan(curve.values).all()


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_constants_of_other_numbers_of_clients_are_refused(name, count):
    bound, known, schedule, _ = LEGAL[name]
    odd = {each: [0.1] * count for each in ("sigma_sq", "sigma_star_sq")}
    known = constants.replace(known, provenance="exact", **odd)
    try:
        curve = bound(known, schedule, E, T)
    except ValueError as error:
        assert f"must have one value for each of 4 clients, got {count}" in str(error)
    else:
        assert not {"sigma_sq", "sigma_star_sq"} & set(curve.provenance)


STEPS = (0, -1, 1.5, np.nan, np.inf, "a", None, [1, 2], True)


@pytest.mark.parametrize("name", LEGAL)
def test_numbers_of_steps_are_named_by_every_bound(name):
    bound, known, schedule, _ = LEGAL[name]
    for bad in STEPS:
        with pytest.raises((TypeError, ValueError), match="local_steps must"):
            bound(known, schedule, bad, T)
        if name != "one round":
            with pytest.raises((TypeError, ValueError), match="horizon must"):
                bound(known, schedule, E, bad)


@pytest.mark.parametrize("name", [name for name in LEGAL if LEGAL[name][2] is not None])
def test_step_sizes_are_named_by_every_bound(name):
    bound, known, _, _ = LEGAL[name]
    for bad in (0, -0.1, np.nan, np.inf, "a", [0.1, 0.1], True):
        with pytest.raises((TypeError, ValueError), match="schedule must"):
            bound(known, bad, E, T)


@pytest.mark.parametrize("name", LEGAL)
def test_smoothness_must_be_positive_and_finite(name):
    bound, known, schedule, _ = LEGAL[name]
    known = dataclasses.replace(known, L=constants.constant("L", 0.0, "exact"))
    if name in ("li theorem 4", "karimireddy, lower", "tutorial"):
        assert "L" not in bound(known, schedule, E, T).provenance
        return
    with pytest.raises(ValueError, match=r"L must be > 0, got 0\.0"):
        bound(known, schedule, E, T)
    for value, words in ((np.inf, "finite"), (np.nan, "finite"), (-1.0, ">= 0")):
        with pytest.raises(ValueError, match=f"L must be {words}"):
            constants.constant("L", value, "exact")


@pytest.mark.parametrize(
    ("bound", "name"),
    [
        (lambda v: b.karimireddy.fedavg(BASE, None, E, T, server_learning_rate=v), "server_learning_rate"),
        (lambda v: b.karimireddy.one_round(BASE, 0.001, E, drift=v), "drift"),
        (lambda v: b.scaffold.scaffold(BASE, None, E, T, server_learning_rate=v), "server_learning_rate"),
        (lambda v: b.fedopt.fedadagrad(BASE, 0.001, E, T, server_learning_rate=1, adaptivity=v), "adaptivity"),
        (lambda v: b.fedprox.fedprox(BASE, None, E, T, mu=v, clients=20), "mu"),
        (lambda v: b.fedprox.fedprox(BASE, None, E, T, mu=500, clients=20, inexactness=v), "inexactness"),
        (lambda v: b.fednova.inconsistency(BASE, [1] * 4, [1.0], beta_sq=v, kappa_sq=1), "beta_sq"),
        (lambda v: b.fednova.inconsistency(BASE, [1] * 4, [1.0], beta_sq=1, kappa_sq=v), "kappa_sq"),
    ],
)
def test_other_numbers_are_named(bound, name):
    for bad in (-1.0, np.nan, np.inf, "a", None, [1.0, 2.0]):
        with pytest.raises((TypeError, ValueError), match=f"{name} must"):
            bound(bad)


def nearest(curve, condition):
    """The number that a message gives as the nearest legal one; None without such a message."""
    said = [one for one in curve.validity if one.startswith(f"{condition}: ")]
    return nearest_of(said) if said else None


def nearest_of(said):
    return float(said[0].split()[-1])


@given(st.floats(-3, 3), st.floats(0, 3), st.integers(1, 40), st.floats(0.001, 0.999), st.floats(0.5, 3))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_the_nearest_legal_step_size_is_legal_for_every_bound(size, condition, local_steps, share, excess):
    L = 10.0**size
    known = changed(L=L, mu=L / 10**condition, dissimilarity_B_sq=2 + share, zeta_star_sq=0.0, delta=0.0)
    quiet = constants.replace(known, provenance="exact", sigma_sq=[0.0] * 4)
    tried = 0
    for name, (bound, held, schedule, _) in LEGAL.items():
        if schedule is None or name in ("tutorial", "li theorem 4"):
            continue
        facts = quiet if held is QUIET else known
        far = 10.0**excess / facts.mu.value
        wrong = schedules.inverse_time(far, 1) if name.startswith("li") else far
        near = nearest(bound(facts, wrong, local_steps, local_steps), "step size")
        assert near is not None, name
        legal = (
            schedules.inverse_time(2 / facts.mu.value, 2 / facts.mu.value / near) if name[:2] == "li" else near
        )
        again = bound(facts, legal, local_steps, local_steps)
        assert nearest(again, "step size") is None, (name, near, again.validity)
        tried += 1
    assert tried >= 18


@given(st.floats(1e-9, 1e9))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_nearest_legal_values_are_rounded_to_the_legal_side(limit):
    below = nearest_of(at_most("x", "x", 2 * limit, limit, "limit"))
    above = nearest_of(at_least("x", "x", limit / 2, limit, "limit"))
    assert limit * (1 - 1.1e-5) <= below <= limit * (1 + 1e-12)
    assert limit * (1 - 1e-12) <= above <= limit * (1 + 1.1e-5)
    assert at_most("x", "x", below, limit, "limit") == at_least("x", "x", above, limit, "limit") == []


def test_other_nearest_legal_values_are_legal():
    for beta in np.linspace(1.0, 9.0, 23):
        known = changed(L=beta, dissimilarity_B_sq=2.3)
        rounds = nearest(b.karimireddy.fedavg(known, None, 1, 1), "rounds")
        assert rounds == int(rounds)
        again = b.karimireddy.fedavg(known, None, 1, int(rounds))
        assert nearest(again, "rounds") is None
        curve = b.fedprox.fedprox(known, None, E, T, mu=1.0 * beta, clients=20)
        near = float(curve.validity[0].split()[-1])
        assert b.fedprox.fedprox(known, None, E, T, mu=near, clients=20).validity == ()
    assert nearest(b.li2020.theorem3(BASE, LI, E, T, clients=9), "sampled clients") == 4
    assert nearest(b.explicit.e1(BASE, 0.01, E, 42), "whole rounds") == 40
    assert nearest(b.karimireddy.fedavg(BASE, None, E, T, server_learning_rate=0.5), "server step") == 1


def test_mu_above_smoothness_is_refused_also_where_both_are_stretched():
    known = constants.replace(BASE, provenance="exact", p=[0.1, 0.2, 0.3, 0.4], mu=4.1)
    schedule = b.li2020.step_sizes(known, E, transformed=True)
    curve = b.li2020.theorem3(known, schedule, E, T, clients=2, transformed=True)
    assert [one for one in curve.validity if one.startswith("curvatures: mu must be <= L = 4, got 4.1")]
    known = changed(p=[0.0, 0.2, 0.4, 0.4])
    with pytest.raises(ValueError, match=r"p must be > 0 for each client, got 0\.0: leave"):
        b.li2020.step_sizes(known, E, transformed=True)
    curve = b.li2020.theorem3(known, schedule, E, T, clients=2, transformed=True)
    assert [one.split(":")[0] for one in curve.validity] == ["positive weights"]
    assert np.isnan(curve.values).all()


@pytest.mark.parametrize("name", ["e1f", "khaled 2019"])
def test_convexity_that_is_guessed_takes_the_claim_away(name):
    """These need no mu > 0, thus only lower_curvature = 0, or mu >= 0, says that the functions are convex."""
    bound, known, schedule, _ = LEGAL[name]
    silent = dataclasses.replace(known, mu=None, lower_curvature=None)
    curve = bound(silent, schedule, E, T)
    assert curve.provenance["lower_curvature"] == "assumed" and not curve.may_hold
    assert curve.validity == () and np.isfinite(curve.values).all()
    assert not bound(constants.replace(silent, provenance="estimate", mu=0.0), schedule, E, T).may_hold
    assert bound(constants.replace(silent, provenance="exact", mu=0.0), schedule, E, T).may_hold
    assert bound(constants.replace(silent, provenance="exact", lower_curvature=0.0), schedule, E, T).may_hold
    bent = dataclasses.replace(silent, mu=constants.Constant(np.nan, "exact"))
    assert bound(bent, schedule, E, T).validity[0].startswith("convexity: mu must be >= 0, got nan")


def test_indefinite_quadratics_have_no_mu_and_are_refused():
    """One client curves downwards; the mean is convex and has an optimum."""
    A = np.array([np.diag([-0.5, 1.0]), np.diag([3.0, 2.0]), np.diag([2.0, -4.0]), np.diag([1.0, 9.0])])
    functions = oracles.quadratics(A, b=np.ones((4, 2)))
    facts = constants.of_quadratics(functions, [0.0, 0.0])
    assert facts.L.value == 9 and facts.lower_curvature.value == 4 and np.isnan(facts.mu.value)
    assert facts.gamma_gap.value == np.inf and np.isfinite(facts.zeta_star_sq.value)
    assert np.isfinite(facts.gap.value)
    curve = b.explicit.e1(facts, 0.001, 2, 4)
    assert curve.validity[0].startswith("convexity: lower_curvature must be 0, got 4")
    assert any("some client is not convex" in one for one in curve.validity) and not curve.may_hold
    assert b.explicit.e1f(facts, 0.001, 2, 4).validity and b.khaled.local_gd(facts, 0.001, 2, 4).validity
    with pytest.raises(ValueError, match="dissimilarity_G_sq must exist, got nan"):
        b.karimireddy.fedavg(facts, None, 2, 400)
    known = constants.replace(facts, provenance="exact", li_G_sq=100.0)
    assert b.yu2019.yu2019(known, 0.01, 2, 4).may_hold
    lowest = constants.of_quadratics(oracles.quadratics(A[:1], b=np.ones((1, 2))), [0.0, 0.0])
    assert lowest.L.value == 1 and lowest.gap.value == np.inf and np.isnan(lowest.zeta_star_sq.value)
    with pytest.raises(ValueError, match="gap must be finite, got infinity"):
        b.yu2019.yu2019(constants.replace(lowest, provenance="exact", li_G_sq=1.0), 0.01, 2, 4)
