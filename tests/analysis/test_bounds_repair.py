"""What a bound says is legal is legal: messages are followed until none is left."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_bounds import BASE, LEGAL, LI, E, T

from fedjax_het.analysis import bounds as b
from fedjax_het.analysis import constants
from fedjax_het.local import schedules

CASES = LEGAL | {
    "fedprox": (lambda c, s, e, t: b.fedprox.fedprox(c, None, e, t, mu=s, clients=20), BASE, 1.0, "M")
}
SET = {
    "convexity": "lower_curvature",
    "curvatures": "mu",
    "strong convexity": "mu",
    "equal optima": "zeta_star_sq",
    "equal curvatures": "delta",
    "finite gamma_gap": "gamma_gap",
    "finite zeta_bar_sq": "zeta_bar_sq",
}
NOT_NUMBERS = {"strong convexity": 1e-3, "finite gamma_gap": 1.0, "finite zeta_bar_sq": 1.0}


def followed(message, run):
    """`run`, a (constants, schedule, E, T), with the printed number in place of what the message names."""
    facts, schedule, local_steps, horizon = run
    condition, said = message.split(": ")[0], message.split("the nearest legal ")[1]
    if condition == "schedule":
        return facts, b.li2020.step_sizes(facts, local_steps), local_steps, horizon
    words = said.replace(",", " ").replace(" throughout", "").split()
    near = NOT_NUMBERS[condition] if condition in NOT_NUMBERS else float(words[1 if words[1] != "mu" else 3])
    if condition in SET:
        facts = constants.replace(facts, provenance="exact", **{SET[condition]: near})
    elif condition in ("equal weights", "full batches"):
        name = {"equal weights": "p", "full batches": "sigma_sq"}[condition]
        facts = constants.replace(facts, provenance="exact", **{name: [near] * 3})
    elif condition == "whole rounds":
        horizon = int(near)
    elif condition == "local steps":
        local_steps = int(near)
    elif condition == "rounds":
        horizon = int(near) * local_steps
    elif condition == "step size" and "at step 0" in message:
        scale = 2 / float(facts.mu.value)
        schedule = schedules.inverse_time(scale, scale / near)
    else:
        assert condition in ("step size", "constant step", "decrease"), message
        schedule = near
    return facts, schedule, local_steps, horizon


@st.composite
def broken(draw):
    """Constants, step sizes and numbers of steps that break nearly everything."""
    size, curvature = 10.0 ** draw(st.floats(-3, 3)), draw(st.sampled_from([0.0, 1.3, 1.000002, 1.0, 0.03]))
    local_steps, far = draw(st.integers(1, 40)), 10.0 ** draw(st.floats(0, 3))
    facts = constants.replace(
        BASE,
        provenance="exact",
        p=draw(st.sampled_from([[0.2, 0.3, 0.5], [1 / 3] * 3])),
        sigma_sq=[0.1, 0.2, 0.3],
        sigma_star_sq=[0.1, 0.2, 0.3],
        L=size,
        mu=size * curvature,
        gamma_gap=np.inf,
        zeta_bar_sq=np.inf,
        dissimilarity_B_sq=draw(st.floats(1, 3)),
        lower_curvature=draw(st.sampled_from([0.0, 0.3])) * size,
    )
    falls = lambda s: far / size / (1 + np.asarray(s) / 7)  # noqa: E731
    return facts, draw(st.sampled_from([far / size, falls])), local_steps, draw(st.integers(1, 120))


@pytest.mark.parametrize("name", [name for name in CASES if name != "tutorial"])
@given(broken())
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_each_message_is_followed_until_none_is_left(name, run):
    bound, _, plain, _ = CASES[name]
    if name == "fedprox":
        run = (run[0], 1.01 * float(run[0].lower_curvature.value) + 1e-3, *run[2:])
    elif plain is None:
        run = (run[0], None, *run[2:])
    curve = bound(*run)
    for _ in range(12):
        if not curve.validity:
            break
        message = curve.validity[0]
        run = followed(message, run)
        curve = bound(*run)
        again = [one for one in curve.validity if one.split(": ")[0] == message.split(": ")[0]]
        assert not again, (message, again)
        if message.startswith("constant step"):
            assert not [one for one in curve.validity if one.startswith("step size")], (message, curve.validity)
    assert curve.validity == () and np.isfinite(curve.values).all()


def test_the_step_that_a_schedule_should_have_is_taken():
    known = constants.replace(BASE, provenance="exact", mu=0.7)
    right = 2 / (0.7 * (8 * 4 / 0.7 + np.arange(T)))
    wrong = np.where(np.arange(T) == 17, 2 * right, right)
    message = b.li2020.theorem1(known, lambda s: wrong, E, T).validity[0]
    assert message.startswith("schedule: ") and "at step 17" in message
    near = float(message.split("there is ")[1].split(",")[0])
    assert b.li2020.theorem1(known, lambda s: np.where(s == 17, near, right), E, T).validity == ()


@given(st.floats(-3, 3), st.floats(0, 0.99), st.floats(1, 4), st.integers(1, 200), st.floats(0, 0.5))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_the_proximal_term_is_the_least_that_is_legal(size, bent, squared, clients, inexactness):
    L = 10.0**size
    known = constants.replace(BASE, provenance="exact", L=L, lower_curvature=bent * L, ratio_B_sq=squared)

    def at(mu):
        return b.fedprox.fedprox(known, None, E, T, mu=mu, clients=clients, inexactness=inexactness)

    said = at((bent + 0.01) * L).validity
    B = np.sqrt(squared)
    if 1 - inexactness * B - B * (1 + inexactness) * np.sqrt(2 / clients) <= 0:
        assert "nearest legal is none" in said[0]
        assert at(1e9 * L).validity
        return
    near = float(said[0].split()[-1])
    assert at(near).validity == () and at(near * (1 - 2e-5)).validity
    assert np.isfinite(at(near).values).all()


def test_numbers_of_clients_are_printed_as_such():
    many = constants.replace(
        BASE, provenance="exact", p=np.full(1_234_567, 1 / 1_234_567), sigma_sq=np.zeros(1_234_567)
    )
    curve = b.explicit.e2(many, 1e-3, E, T, clients=2_000_000, scheme="II")
    assert curve.validity[0].endswith("the nearest legal is 1234567")


def test_li_takes_its_own_schedule_back():
    assert b.li2020.theorem1(dataclasses.replace(BASE, lower_curvature=None), LI, E, T).may_hold
