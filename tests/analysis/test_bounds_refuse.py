"""Bounds say which condition a run violates and what would be legal, and what they are where they only hint."""

import dataclasses

import numpy as np
import pytest
from legal_bounds import ALIKE, BASE, FLAT, LEGAL, LI, QUIET, ROUNDS, SKEWED, E, T, changed

from fedjax_het.analysis import bounds, constants
from fedjax_het.local import schedules

b = bounds


@pytest.mark.parametrize("name", LEGAL)
def test_in_its_conditions_a_bound_has_values_and_says_what_it_is(name):
    bound, known, schedule, tag = LEGAL[name]
    curve = bound(known, schedule, E, ROUNDS if name == "karimireddy" else T)
    assert curve.validity == ()
    assert np.isfinite(curve.values).all() and (curve.values >= 0).all() and curve.values.max() > 0
    assert curve.tag == tag
    assert curve.may_hold == (tag in "SD") and curve.shape_only == (tag in "OX")
    assert curve.steps.shape == curve.values.shape and (np.diff(curve.steps) == E).all()
    assert curve.provenance and set(curve.provenance.values()) == {"exact"}
    assert not np.isnan(list(curve.terms.values())).any()


GUESSED = ("e1", "li theorem 1", "yu 2019", "equal curvatures", "khaled 2019")


@pytest.mark.parametrize("name", GUESSED)
@pytest.mark.parametrize("kind", ["estimate", "assumed"])
def test_a_guessed_constant_takes_the_claim_away(name, kind):
    bound, known, schedule, _ = LEGAL[name]
    known = dataclasses.replace(known, L=constants.constant("L", known.L.value, kind))
    curve = bound(known, schedule, E, T)
    assert not curve.may_hold and curve.provenance["L"] == kind and np.isfinite(curve.values).all()


# name: (bound's name, constants, schedule, E, T, condition, the nearest legal value in words)
VIOLATED = {
    "e1's step": ("e1", BASE, 0.0126, E, T, "step size", "0.0125"),
    "e1f's step": ("e1f", BASE, 0.01, E, T, "step size", "0.00833333"),
    "e2's step": ("e2", BASE, 0.01, E, T, "step size", "0.003125"),
    "e1 in one step of many": ("e1", BASE, lambda s: 0.01 + 0.01 * (s == 7), E, T, "step size", "0.0125"),
    "e1 without strong convexity": ("e1", FLAT, 0.01, E, T, "strong convexity", "l2"),
    "e1 in part of a round": ("e1", BASE, 0.01, E, 42, "whole rounds", "40"),
    "scheme II of unequal weights": ("e2, scheme II", SKEWED, 1 / 320, E, T, "equal weights", "0.25"),
    "e1f at falling steps": ("e1f", BASE, lambda s: 0.008 / (1 + s), E, T, "constant step", "throughout"),
    "li at a constant step": ("li theorem 1", BASE, 0.01, E, T, "schedule", "li2020.step_sizes"),
    "li at eta_0 / (1 + r)": (
        "li theorem 1", BASE, schedules.inverse_time(0.05, 1, unit="round"), E, T, "schedule", "0.0266667"
    ),
    "li at larger steps": ("li theorem 1", BASE, schedules.inverse_time(2, 31), E, T, "step size", "0.0625"),
    "li in part of a round": ("li theorem 1", BASE, LI, E, 41, "whole rounds", "40"),
    "li without a minimum": ("li theorem 1", changed(gamma_gap=np.inf), LI, E, T, "finite gamma_gap", "met"),
    "li without strong convexity": ("li theorem 1", FLAT, LI, E, T, "strong convexity", "l2"),
    "theorem 3 of unequal weights": ("li theorem 3", SKEWED, LI, E, T, "equal weights", "0.25"),
    "theorem 4 with one step": ("li theorem 4", QUIET, 0.01, 1, T, "local steps", "2"),
    "khaled 2019 with noise": ("khaled 2019", BASE, 0.01, E, T, "full batches", "0"),
    "khaled 2019's step": ("khaled 2019", QUIET, 0.02, E, T, "step size", "0.0125"),
    "khaled 2020 of other clients": ("khaled 2020, identical", BASE, 0.01, E, T, "equal optima", "0"),
    "khaled 2020 of other shapes": ("khaled 2020, identical", BASE, 0.01, E, T, "equal curvatures", "0"),
    "khaled 2020's step": ("khaled 2020", BASE, 0.01, E, T, "step size", "0.0078125"),
    "khaled 2020 of unequal weights": ("khaled 2020", SKEWED, 0.001, E, T, "equal weights", "0.25"),
    "yu's step": ("yu 2019", BASE, 0.26, E, T, "step size", "0.25"),
    "yu of unequal weights": ("yu 2019", SKEWED, 0.1, E, T, "equal weights", "0.25"),
    "karimireddy's step": ("karimireddy, convex", BASE, 0.01, E, T, "step size", "0.00208333"),
    "karimireddy's rounds": ("karimireddy", BASE, 1 / 480, E, T, "rounds", "96"),
    "lower bound with one step": ("karimireddy, lower", QUIET, None, 1, T, "local steps", "2"),
    "scaffold's step": ("scaffold", BASE, 0.01, E, T, "step size", "0.000617283"),
    "local sgd of any": ("local sgd", changed(zeta_bar_sq=np.inf), None, E, T, "finite zeta_bar_sq", "met"),
    "adagrad's step": ("fedadagrad", BASE, 0.01, E, T, "step size", "0.00625"),
    "equal clients that are not": ("equal clients", BASE, 0.01, E, T, "equal optima", "0"),
    "equal curvatures that are not": ("equal curvatures", BASE, 0.01, E, T, "equal curvatures", "0"),
    "equal curvatures' step": ("equal curvatures", ALIKE, 0.5, E, T, "step size", "0.4"),
}  # fmt: skip


@pytest.mark.parametrize("case", VIOLATED)
def test_outside_them_it_is_silent_and_says_why(case):
    name, known, schedule, local_steps, horizon, condition, near = VIOLATED[case]
    curve = LEGAL[name][0](known, schedule, local_steps, horizon)
    assert np.isnan(curve.values).all() and not curve.may_hold
    said = [one for one in curve.validity if one.startswith(f"{condition}: ")]
    assert len(said) == 1 and "nearest legal" in said[0] and near in said[0].split("nearest legal")[1]


def test_the_nearest_legal_step_is_legal():
    curve = bounds.explicit.e1(BASE, 1.0, E, T)
    assert bounds.explicit.e1(BASE, float(curve.validity[0].split()[-1]), E, T).validity == ()


def test_a_proximal_term_too_weak_is_told_one_that_does():
    curve = bounds.fedprox.fedprox(BASE, None, E, T, mu=1.0, clients=20)
    assert curve.validity[0].startswith("decrease: rho must be > 0") and np.isnan(curve.values).all()
    near = float(curve.validity[0].split()[-1])
    assert bounds.fedprox.fedprox(BASE, None, E, T, mu=near, clients=20).validity == ()
    hopeless = bounds.fedprox.fedprox(BASE, None, E, T, mu=1.0, clients=1)
    assert "sample more clients" in hopeless.validity[0]


def test_an_idle_client_is_named():
    curve = bounds.fednova.inconsistency(BASE, [5, 5, 0, 5], [1.0], beta_sq=1, kappa_sq=1)
    assert curve.validity[0].startswith("work: ") and "[2]" in curve.validity[0]
    assert np.isnan(curve.values).all()


@pytest.mark.parametrize(
    ("name", "missing", "words"),
    [
        ("e1", "mu", "a network has none"),
        ("e1", "zeta_star_sq", "optimum"),
        ("li theorem 1", "li_G_sq", "local iterates"),
        ("li theorem 1", "gamma_gap", "F_k"),
        ("yu 2019", "gap", "minimum"),
        ("fedprox", "ratio_B_sq", "grad F"),
        ("karimireddy", "dissimilarity_G_sq", "twice zeta_star_sq"),
        ("koloskova", "sigma_star_sq", "at the optimum"),
        ("fedadagrad", "coordinate_G", "coordinate"),
    ],
)
def test_a_missing_constant_is_named_with_how_to_get_it(name, missing, words):
    bound, known, schedule, _ = LEGAL[name]
    with pytest.raises(ValueError, match=f"{missing} must be known, got None: .*{words}"):
        bound(dataclasses.replace(known, **{missing: None}), schedule, E, T)


def test_one_step_with_everyone_needs_no_gradient_bound():
    known = dataclasses.replace(BASE, li_G_sq=None)
    curve = bounds.li2020.theorem1(known, bounds.li2020.step_sizes(known, 1), 1, T)
    assert curve.may_hold and curve.terms["drift"].max() == 0 and curve.terms["Gamma"].min() > 0


@pytest.mark.parametrize(
    ("schedule", "error"),
    [(0, ValueError), (-0.1, ValueError), (np.nan, ValueError), ("fast", TypeError), ([0.1, 0.1], ValueError)],
)
def test_step_sizes_are_checked(schedule, error):
    with pytest.raises(error, match="schedule must"):
        bounds.explicit.e1(BASE, schedule, E, T)


def test_numbers_of_steps_are_checked():
    with pytest.raises(ValueError, match="local_steps must be >= 1"):
        bounds.explicit.e1(BASE, 0.01, 0, T)
    with pytest.raises(TypeError, match="horizon must be a whole number"):
        bounds.explicit.e1(BASE, 0.01, E, 2.5)
    with pytest.raises(TypeError, match="constants must be Constants"):
        bounds.explicit.e1({"L": 1}, 0.01, E, T)
    with pytest.raises(ValueError, match="regime must be one of"):
        bounds.karimireddy.fedavg(BASE, None, E, T, regime="konvex")
    with pytest.raises(ValueError, match="measured must have shape"):
        bounds.explicit.e1(BASE, 0.01, E, T).ratio([1.0])


def test_e1_by_hand():
    """Two rounds of two steps at gamma = 1/100, every term written out."""
    curve = bounds.explicit.e1(BASE, 0.01, 2, 4)
    q, mean, sharp = 0.99**2, 0.25, 1.0 / 16
    added = (1 - q) * (8 * 1e-4 * 4 * 2 * 2 + 4 * 1e-4 * 4 * mean + 0.01 * sharp)
    np.testing.assert_allclose(curve.values, [2, 2 * q + added, (2 * q + added) * q + added], rtol=1e-12)


def test_li_theorem_1_by_hand():
    """kappa = 4, gamma = 32: (4 / (32 + s)) (2 B + 16 * 2)."""
    curve = bounds.li2020.theorem1(BASE, LI, E, T)
    B = 1.0 / 16 + 6 * 4 * 0.5 + 8 * 16 * 9
    np.testing.assert_allclose(curve.values, 4 / (32 + curve.steps) * (2 * B + 32), rtol=1e-6)
    more = bounds.li2020.theorem3(BASE, LI, E, T, clients=2).terms["sampling"]
    np.testing.assert_allclose(more, 4 / (32 + curve.steps) * 2 * (2 / 3) * 2 * 25 * 9, rtol=1e-6)


def test_averaging_gains_the_number_of_clients():
    for count in (1, 2, 10):
        np.testing.assert_allclose(bounds.iid.averaged_variance(np.full(count, 3.0)), 3 / count)
    np.testing.assert_allclose(bounds.iid.averaged_variance([1.0, 1.0], [0.9, 0.1]), 0.82)
    drawn = np.random.default_rng(0).normal(size=(200_000, 4)) * [1, 2, 3, 4]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(
        bounds.iid.averaged_variance([1, 4, 9, 16], weights), np.var(drawn @ weights), rtol=0.02
    )


def test_local_steps_cost_nothing_without_drift_and_little_with_noise_alone():
    one, many = (bounds.iid.equal_curvatures(ALIKE, 0.1, steps, 40).values[-1] for steps in (1, 5))
    assert one == many
    floors = [bounds.iid.equal_clients(ALIKE, 1e-3, steps, 20_000).values[-1] for steps in (1, 5)]
    assert floors[0] < floors[1] < 2 * floors[0]


def test_the_transformed_scheme_scales_gradients_and_not_their_roots():
    """A client of weight nu / N has nu times the gradient: nu G^2 would be less than what it has."""
    curve = bounds.li2020.theorem3(
        SKEWED, bounds.li2020.step_sizes(SKEWED, E, transformed=True), E, T, clients=2, transformed=True
    )
    plain = bounds.li2020.theorem3(BASE, LI, E, T, clients=2)
    front = (1.6 * 4 / 0.4) / (8 * 16 + curve.steps) / 0.4
    ratio = curve.terms["sampling"] / (plain.terms["sampling"] * (32 + plain.steps) / 4 * front)
    np.testing.assert_allclose(ratio, 1.6**2, rtol=1e-6)


def test_the_best_step_is_legal_and_the_best():
    gamma, curve = bounds.explicit.best_step(bounds.explicit.e1, BASE, E, 4000, points=60)
    assert curve.may_hold and gamma <= 1 / 80 * (1 + 1e-6)
    for other in (gamma * 0.6, 1 / 80):
        assert curve.values[-1] <= bounds.explicit.e1(BASE, other, E, 4000).values[-1]
    _, silent = bounds.explicit.best_step(bounds.explicit.e1, FLAT, E, 40, points=3)
    assert np.isnan(silent.values).all()


def test_bounds_of_distances_become_bounds_of_gaps():
    far = bounds.explicit.e1(BASE, 0.01, E, T)
    near = bounds.gap_of_distance(far, BASE)
    np.testing.assert_allclose(near.values, 2 * far.values)
    assert near.may_hold and near.statement.unit == "l"
    with pytest.raises(ValueError, match="curve must be an upper bound of a squared distance"):
        bounds.gap_of_distance(near, BASE)


def test_the_tutorials_bound_does_not_know_its_units():
    """Scaling the loss scales a squared gradient by 100; the quoted sum neither scales so nor by anything."""
    quoted = bounds.tutorial.simplified(BASE, 0.1, E, T).values
    scaled = bounds.tutorial.simplified(changed(li_G_sq=900.0), 0.01, E, T).values
    np.testing.assert_allclose(scaled, quoted)  # in a loss 10 times as large, at the step that does the same
    right = bounds.yu2019.yu2019(BASE, 0.1, E, T).values
    larger = changed(L=40.0, gap=10.0, li_G_sq=900.0, sigma_sq=BASE.sigma_sq.value * 100)
    np.testing.assert_allclose(bounds.yu2019.yu2019(larger, 0.01, E, T).values, 100 * right)


@pytest.mark.parametrize("name", [n for n in LEGAL if n not in ("tutorial", "li theorem 4")])
@pytest.mark.parametrize("units", [(10.0, 1.0), (1.0, 10.0)])
def test_units_agree_on_both_sides(name, units):
    """In a loss of other units, or parameters of other units, a bound changes by its own unit."""
    l, w = units
    slope, curvature = (l / w) ** 2, l / w**2
    factor = dict.fromkeys(
        ("zeta_star_sq", "zeta_bar_sq", "sigma_sq", "sigma_star_sq", "li_G_sq", "dissimilarity_G_sq"), slope
    )
    factor |= dict.fromkeys(("L", "mu", "delta", "lower_curvature"), curvature)
    factor |= {"gamma_gap": l, "gap": l, "distance_sq": w**2, "coordinate_G": l / w}
    bound, known, schedule, _ = LEGAL[name]
    if name in ("one round", "fedprox", "fedadagrad"):
        bound = {
            "one round": lambda c, s, e, t: b.karimireddy.one_round(c, s, e, drift=0.1 * w**2),
            "fedprox": lambda *a: b.fedprox.fedprox(*a, mu=500.0 * curvature, clients=20),
            "fedadagrad": lambda *a: b.fedopt.fedadagrad(*a, server_learning_rate=0.1 * w, adaptivity=0.1 * w),
        }[name]
        plain = LEGAL[name][0](known, schedule, E, T)
    else:
        plain = bound(known, schedule, E, T if name != "karimireddy" else ROUNDS)
    other = constants.replace(
        known,
        provenance="exact",
        **{n: getattr(known, n).value * f for n, f in factor.items()},
    )
    if schedule is LI:
        schedule = bounds.li2020.step_sizes(other, E)
    elif schedule is not None:
        schedule = schedule / curvature
    curve = bound(other, schedule, E, T if name != "karimireddy" else ROUNDS)
    unit = {"l": l, "w": w, "w^2": w**2, "l^2/w^2": slope}[curve.statement.unit]
    np.testing.assert_allclose(curve.values, unit * plain.values, rtol=1e-5)
