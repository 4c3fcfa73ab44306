"""Every oracle against local steps taken one by one: three rounds, some clients absent, some without a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics

from fedjax_het.analysis import oracles

COHORTS = ([0, 1, 3], [1, 2], [0, 2, 3])
WEIGHTS = np.array([1.0, 2.0, 3.0, 6.0]) / 12
STEPS = np.array([2, 5, 0, 3])
FALLING = [0.3, 0.2, 0.25, 0.1, 0.05]


def functions():
    """(A, b), the last client flat along two directions, and along one of them downhill for ever."""
    A, a = quadratics.functions(seed=4)
    b = np.einsum("nij,nj->ni", A, a)
    A[3] = np.outer(a[3], a[3])
    return A, b


def schedules(rates, steps):
    """The rates of each client's steps."""
    rates = rates if isinstance(rates, list) else [rates] * 9
    return [rates[:count] for count in np.broadcast_to(steps, 4)]


@pytest.fixture
def tolerance():
    with jax.enable_x64(True):
        yield 1e-11


def masks():
    return jnp.asarray([np.isin(np.arange(4), cohort) for cohort in COHORTS])


def path(round_map, start):
    """The states after each of the three rounds, the cohort a traced argument."""
    A, b = functions()

    @jax.jit
    def three(held, start, present):
        def one(state, here):
            state = round_map(held, here)(state)
            return state, state

        return jax.lax.scan(one, start, present)[1]

    return three(oracles.quadratics(A, b=b, weights=12 * WEIGHTS), start, masks())


def same(got, expected, tolerance):
    assert got.dtype == jnp.result_type(float)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


START = np.array([1.0, -2.0, 0.5])
CONTROLS = np.random.default_rng(1).normal(size=(4, 3))

AVERAGES = {
    "fedavg": (oracles.fedavg, {"learning_rate": 0.2, "steps": STEPS, "server_learning_rate": 1.3}),
    "fedavg, a schedule": (oracles.fedavg, {"learning_rate": FALLING, "steps": STEPS}),
    "fedprox": (
        oracles.fedprox,
        {"mu": 0.7, "learning_rate": 0.2, "steps": STEPS, "server_learning_rate": 0.6},
    ),
    "fedprox, a schedule": (oracles.fedprox, {"mu": 0.7, "learning_rate": FALLING}),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages(name, tolerance):
    factory, numbers = AVERAGES[name]
    rates = schedules(numbers["learning_rate"], numbers.get("steps", 5))
    w, expected = START, []
    for cohort in COHORTS:
        w = quadratics.averaging_round(
            *functions(),
            WEIGHTS,
            w,
            schedules=rates,
            present=cohort,
            mu=numbers.get("mu", 0.0),
            server_rate=numbers.get("server_learning_rate", 1.0),
        )
        expected.append(w)
    got = path(lambda f, here: factory(f, present=here, **numbers), jnp.asarray(START, jnp.result_type(float)))
    same(got, expected, tolerance)


def test_exact_fedprox(tolerance):
    A, b = functions()
    w, expected = START, []
    for cohort in COHORTS:
        ends = [np.linalg.solve(A[k] + 0.7 * np.eye(3), b[k] + 0.7 * w) for k in cohort]
        w = np.average(ends, axis=0, weights=WEIGHTS[cohort])
        expected.append(w)
    start = jnp.asarray(START, jnp.result_type(float))
    same(path(lambda f, here: oracles.fedprox(f, mu=0.7, present=here), start), expected, tolerance)


NOVA = {
    "steps": {"learning_rate": 0.2},
    "momentum": {"learning_rate": 0.2, "momentum": 0.6},
    "prox": {"learning_rate": 0.2, "mu": 0.7, "effective_steps": "steps"},
    "prox outside": {"learning_rate": FALLING, "mu": 0.7, "momentum": 0.6, "prox": "outside"},
    "prox inside": {
        "learning_rate": FALLING,
        "mu": 0.7,
        "momentum": 0.6,
        "prox": "inside",
        "effective_steps": "steps",
    },
}


@pytest.mark.parametrize("name", NOVA)
def test_fednova(name, tolerance):
    numbers = NOVA[name]
    w, expected = START, []
    for cohort in COHORTS:
        w = quadratics.nova_round(
            *functions(),
            WEIGHTS,
            w,
            schedules=schedules(numbers["learning_rate"], STEPS),
            present=cohort,
            effective=numbers.get("effective_steps", "norm"),
            mu=numbers.get("mu", 0.0),
            rho=numbers.get("momentum", 0.0),
            prox=numbers.get("prox", "outside"),
        )
        expected.append(w)
    start = jnp.asarray(START, jnp.result_type(float))
    got = path(lambda f, here: oracles.fednova(f, steps=STEPS, present=here, **numbers), start)
    same(got, expected, tolerance)


def same_joint(got, expected, tolerance):
    """Compare states with (point, server's variable, controls), which holds their weighted mean."""
    got = oracles.split(got, 4)
    same(got.point, [point for point, _, _ in expected], tolerance)
    same(got.control, [own for _, _, own in expected], tolerance)
    same(jnp.einsum("k,rkd->rd", WEIGHTS, got.control), [shared for _, shared, _ in expected], tolerance)


@pytest.mark.parametrize("option", ["I", "II"])
@pytest.mark.parametrize("rate", [0.2, FALLING], ids=["constant", "schedule"])
def test_scaffold(option, rate, tolerance):
    state, expected = (START, WEIGHTS @ CONTROLS, list(CONTROLS)), []
    for cohort in COHORTS:
        state = quadratics.scaffold_round(
            *functions(),
            WEIGHTS,
            state,
            schedules=schedules(rate, STEPS),
            present=cohort,
            option=option,
            server_rate=0.9,
        )
        expected.append(state)
    numbers = {"learning_rate": rate, "steps": STEPS, "option": option, "server_learning_rate": 0.9}
    got = path(lambda f, here: oracles.scaffold(f, present=here, **numbers), oracles.joint(START, CONTROLS))
    same_joint(got, expected, tolerance)


def test_scaffold_with_fresh_variates(tolerance):
    A, b = functions()
    w, expected = START, []
    for cohort in COHORTS:
        own = [A[k] @ w - b[k] for k in range(4)]
        state = (w, sum(p * g for p, g in zip(WEIGHTS, own)), own)
        w, _, _ = quadratics.scaffold_round(
            A, b, WEIGHTS, state, schedules=schedules(0.2, STEPS), present=cohort, option="II"
        )
        expected.append(w)
    start = jnp.asarray(START, jnp.result_type(float))
    got = path(lambda f, here: oracles.scaffold_fresh(f, learning_rate=0.2, steps=STEPS, present=here), start)
    same(got, expected, tolerance)


@pytest.mark.parametrize("exact", [True, False])
def test_feddyn(exact, tolerance):
    local = {} if exact else {"learning_rate": FALLING, "steps": STEPS}
    rates = None if exact else schedules(FALLING, STEPS)
    state, expected = (START, WEIGHTS @ CONTROLS, list(CONTROLS)), []
    for cohort in COHORTS:
        state = quadratics.dynamic_round(
            *functions(), WEIGHTS, state, alpha=0.8, present=cohort, schedules=rates
        )
        expected.append(state)
    got = path(
        lambda f, here: oracles.feddyn(f, alpha=0.8, present=here, **local), oracles.joint(START, CONTROLS)
    )
    same_joint(got, expected, tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
def test_server_momentum(nesterov, tolerance):
    A, b = functions()
    w, m, expected = START, np.zeros(3), []
    for _ in range(3):
        end = quadratics.averaging_round(A, b, WEIGHTS, w, schedules=schedules(0.2, 4), present=range(4))
        delta = end - w
        m = 0.7 * m + delta
        w = w + 0.5 * (0.7 * m + delta if nesterov else m)
        expected.append(np.concatenate([w, m]))
    held = oracles.quadratics(A, b=b, weights=WEIGHTS)
    round_map = oracles.server_momentum(
        oracles.fedavg(held, learning_rate=0.2, steps=4), beta=0.7, server_learning_rate=0.5, nesterov=nesterov
    )
    start = jnp.concatenate([jnp.asarray(START, jnp.result_type(float)), jnp.zeros(3)])
    same(round_map.trajectory(start, 3), [start, *expected], tolerance)


def test_inexactness(tolerance):
    A, b = functions()
    held = oracles.quadratics(A, b=b)
    gamma, most = oracles.inexactness(held, START, mu=0.7, learning_rate=FALLING, steps=STEPS)
    for k, rates in enumerate(schedules(FALLING, STEPS)):
        y = quadratics.descent(A[k], b[k], START, rates=rates, mu=0.7)
        left = np.linalg.norm(A[k] @ y - b[k] + 0.7 * (y - START))
        same(gamma[k], left / np.linalg.norm(A[k] @ START - b[k]), tolerance)
        h = np.linalg.eigvalsh(A[k]) + 0.7
        same(most[k], max(abs(np.prod([1 - rate * h for rate in rates], axis=0) * np.ones(3))), tolerance)
    assert (gamma <= most * (1 + tolerance)).all()


def test_nobody_is_inexact_at_his_own_minimum(tolerance):
    A, a = quadratics.functions()
    gamma, _ = oracles.inexactness(oracles.quadratics(A, a), a[1] * 0, learning_rate=0.1, steps=3)
    at_home, _ = oracles.inexactness(oracles.quadratics(A, 0 * a), a[1] * 0, learning_rate=0.1, steps=3)
    assert (at_home == 0).all() and (gamma > 0).all()
