"""What theory says of rounds on quadratics: known numbers, limits and first orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics

from fedjax_het.analysis import constants, oracles

WEIGHTS = np.array([1.0, 2.0, 3.0, 6.0])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(got, expected, digits=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


def two():
    """Two clients in the plane, of weights 1/4 and 3/4."""
    A = np.array([np.diag([1.0, 4.0]), [[2.0, 1.0], [1.0, 2.0]]])
    return oracles.quadratics(A, np.eye(2), weights=[0.25, 0.75])


def many():
    """Four clients in space."""
    return oracles.quadratics(*quadratics.functions(), weights=WEIGHTS)


def solved(functions):
    """The flat state (w*, g_k*)."""
    best = functions.optimum
    return oracles.joint(best, functions.gradients(best))


E5 = {"learning_rate": 0.1, "steps": 5}
UNEQUAL = {"learning_rate": 0.1, "steps": [2, 6]}
BEST = (0.36065573770492, 0.49180327868852)

# method: (after one round from (2, -1), limit, rate)
PRINTED = {
    "fedavg": (
        lambda f: oracles.fedavg(f, **E5),
        (1.2833575, -0.155175),
        (0.29113286220399, 0.60253177866746),
        0.5388731518586,
    ),
    "fedavg, unequal steps": (
        lambda f: oracles.fedavg(f, **UNEQUAL),
        (1.2496615, -0.1371615),
        (0.16361092804597, 0.72188678605255),
        0.55471150545716,
    ),
    "fednova": (
        lambda f: oracles.fednova(f, **UNEQUAL),
        (1.29555125, -0.01430125),
        (0.34896727809426, 0.45859042386962),
        0.50950610951833,
    ),
    "fedprox, exact": (
        lambda f: oracles.fedprox(f, mu=1),
        (1.125, -0.05),
        (0.2635814889336, 0.66398390342052),
        0.46972184013377,
    ),
    "fedprox": (
        lambda f: oracles.fedprox(f, mu=1, **E5),
        (1.41172, -0.30201),
        (0.2931641402835, 0.59799954560231),
        0.61982911975592,
    ),
    "pfedme": (
        lambda f: oracles.pfedme(f, lam=2, learning_rate=0.1, steps=3),
        (1.67281481481481, -0.6322962962963),
        (0.27380661446026, 0.63597782315132),
        0.79677536358367,
    ),
    "scaffold I": (
        lambda f: oracles.scaffold(f, option="I", **E5),
        (1.2833575, -0.155175),
        BEST,
        0.44496393124828,
    ),
    "scaffold II": (
        lambda f: oracles.scaffold(f, option="II", **E5),
        (1.2833575, -0.155175),
        BEST,
        0.52490367798443,
    ),
    "feddyn, exact": (lambda f: oracles.feddyn(f, alpha=1), (0.25, 0.9), BEST, 0.72936689466122),
}


@pytest.mark.parametrize("name", PRINTED)
def test_printed_numbers(name):
    make, first, limit, rate = PRINTED[name]
    functions = two()
    close(functions.optimum, BEST, 1e-13)
    round_map = jax.jit(make)(functions)
    memory = round_map.offset.shape[0] > 2
    start = oracles.joint([2.0, -1.0], np.zeros((2, 2))) if memory else jnp.asarray([2.0, -1.0])
    reached = round_map.trajectory(start, 1)[-1]
    point = round_map.fixed_point
    close(reached[:2], first)
    close(point[:2], limit, 2e-14)
    close(round_map.rate, rate, 1e-13)
    if memory:
        close(point, solved(functions), 1e-13)
    # a long run ends at the fixed point, at the rate
    path = np.asarray(round_map.trajectory(start, 120))
    close(path[-1], point, 1e-10)
    errors = np.linalg.norm(path - np.asarray(point), axis=1)
    assert 0.01 < errors[20] / (rate**20 * errors[0]) < 10


def test_printed_constants():
    """Gamma, zeta_*^2 and delta of the same functions."""
    known = constants.of_quadratics(two(), np.array([2.0, -1.0]))
    close(known.gamma_gap.value, 0.32581967213115, 1e-13)
    close(known.zeta_star_sq.value, 1.42622950819672, 1e-13)
    close(known.delta.value, 1.727081728299, 1e-12)


def test_local_steps_of_unlike_curvatures_end_elsewhere():
    """Curvatures 4, 1, 1, 1 and minima around zero: |w_inf - w*| grows with E, up to the mean of the minima."""
    A = np.array([4.0, 1, 1, 1])[:, None, None] * np.eye(2)
    a = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    functions = oracles.quadratics(A, a)
    close(functions.optimum, (3 / 7, 0))
    rounds = jax.jit(jax.vmap(lambda steps: oracles.fedavg(functions, learning_rate=0.1, steps=steps)))
    steps = jnp.asarray([1, 5, 50, 10**6], jnp.int32)
    maps = rounds(steps)
    limits = np.asarray(jax.vmap(lambda m: m.fixed_point)(maps))
    apart = np.linalg.norm(limits - np.asarray(functions.optimum), axis=1)
    close(apart, (0, 0.1902, 0.4273, 3 / 7), 5.1e-5)
    assert apart[0] < 1e-14
    # the filter of each axis by itself: q_k = 1 - (1 - eta a_k)^E
    for E, got in zip((1, 5, 50), maps.matrix):
        shrunk = (1 - 0.1 * np.array([4.0, 1, 1, 1])) ** E
        close(got, np.mean(shrunk) * np.eye(2), 1e-15)


def test_scaffold_diverges_where_fedavg_does_not():
    """Curvatures 0.1 and 10, eta = 0.05, 100 steps."""
    functions = oracles.quadratics([[[0.1]], [[10.0]]], [[1.0], [-1.0]])
    local = {"learning_rate": 0.05, "steps": 100}
    fresh = oracles.scaffold_fresh(functions, **local)
    eigenvalue = 1 - fresh.matrix[0, 0]
    close(eigenvalue, 10.2, 0.05)
    close(fresh.rate, eigenvalue - 1)
    close(oracles.scaffold(functions, option="I", **local).rate, 3.08, 0.005)
    close(oracles.scaffold(functions, option="II", **local).rate, 0.545, 0.0005)
    assert oracles.fedavg(functions, **local).rate < 1
    # endless steps: x - (sum p / a_k) F'(x)
    endless = oracles.scaffold_fresh(functions, learning_rate=0.05, steps=100_000)
    close(endless.matrix[0, 0], 1 - np.mean([1 / 0.1, 1 / 10]) * 5.05, 1e-11)
    # the largest server rate that converges is 2 / eigenvalue
    for factor, converges in ((0.99, True), (1.01, False)):
        damped = oracles.scaffold_fresh(functions, server_learning_rate=2 * factor / eigenvalue, **local)
        assert (damped.rate < 1) == converges


PAIR_RATE = 0.05
PATHS = {
    ("II", 2): (0.9025, 0.814325, 0.73475975),
    ("II", 10): (0.58716961, 0.32397897, 0.17258727),
    ("I", 2): (0.9025, 0.8142625, 0.73465131),
    ("I", 10): (0.58716961, 0.30878189, 0.15704039),
}


def pair(G):
    """x^2 + G x and -G x, of which the second has no curvature and no minimum."""
    return oracles.quadratics([[[2.0]], [[0.0]]], b=[[-G], [G]])


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_client_without_a_minimum(steps):
    for G in (1.0, 10.0, 100.0):
        functions = pair(G)
        q = (1 - (1 - 2 * PAIR_RATE) ** steps) / 2
        limit = oracles.fedavg(functions, learning_rate=PAIR_RATE, steps=steps).fixed_point
        close(limit, G * (steps * PAIR_RATE - q) / (2 * q), 1e-12 * G)
        for option in ("I", "II") if steps > 1 else ():
            round_map = oracles.scaffold(functions, learning_rate=PAIR_RATE, steps=steps, option=option)
            start = oracles.joint([1.0], functions.gradients(jnp.ones(1)))
            path = oracles.split(round_map.trajectory(start, 3), 2).point
            close(path[1:, 0], PATHS[option, steps], 5.1e-9)


def test_unequal_steps_of_equal_curvatures():
    """Wang et al. 2020, Lemma 1, and what normalising leaves of it."""
    functions = oracles.quadratics(np.ones((2, 1, 1)), [[-1.0], [1.0]])
    for rate, averaged, normalised in ((0.05, 0.778, -0.1096), (0.001, 0.8174, -0.00225)):
        local = {"learning_rate": rate, "steps": [1, 10]}
        q = 1 - (1 - rate) ** np.array([1, 10])
        close(oracles.fedavg(functions, **local).fixed_point, (q[1] - q[0]) / q.sum())
        close(oracles.fedavg(functions, **local).fixed_point, averaged, 5.1e-4)
        q = q / [1, 10]
        close(oracles.fednova(functions, **local).fixed_point, (q[1] - q[0]) / q.sum())
        close(oracles.fednova(functions, **local).fixed_point, normalised, 5.1e-5)
    mismatched = oracles.quadratics(functions.A, b=functions.b, weights=[1, 10])
    close(oracles.fedavg(functions, learning_rate=1e-7, steps=[1, 10]).fixed_point, mismatched.optimum, 1e-6)


def test_the_largest_stable_step():
    functions = many()
    limit = oracles.step_limit(functions)
    close(limit, 2 / np.linalg.eigvalsh(functions.A).max())
    steps = jnp.arange(1, 200, dtype=jnp.int32)
    rate = jax.jit(
        jax.vmap(lambda eta, E: oracles.fedavg(functions, learning_rate=eta, steps=E).rate, (None, 0))
    )
    bound = jax.jit(
        jax.vmap(lambda eta, E: oracles.contraction(functions, learning_rate=eta, steps=E), (None, 0))
    )
    below, above = rate(0.99 * limit, steps), rate(1.02 * limit, steps)
    assert (below < 1).all() and (above[-2] > 1) and (below <= bound(0.99 * limit, steps) * (1 + 1e-12)).all()
    held = oracles.step_limit(functions, mu=2.0)
    most = [
        oracles.inexactness(functions, np.ones(3), mu=2.0, learning_rate=factor * held, steps=1)[1].max()
        for factor in (0.99, 1.01)
    ]
    assert most[0] < 1 < most[1]


def test_first_orders_of_the_bias():
    """What is left of bias and prediction is half as large, relatively, at half the step."""
    functions = many()
    tau = jnp.asarray([2, 7, 1, 4], jnp.int32)
    cases = {
        "fedavg": (
            lambda eta: oracles.fedavg(functions, learning_rate=eta, steps=5),
            lambda eta: oracles.drift_bias(functions, learning_rate=eta, steps=5),
        ),
        "fednova": (
            lambda eta: oracles.fednova(functions, learning_rate=eta, steps=tau),
            lambda eta: oracles.drift_bias(functions, learning_rate=eta, steps=tau),
        ),
        "fedprox": (
            lambda eta: oracles.fedprox(functions, mu=1 / eta),
            lambda eta: oracles.prox_bias(functions, mu=1 / eta),
        ),
    }
    for name, (method, predicted) in cases.items():
        left = []
        for eta in (2e-4, 1e-4):
            bias = predicted(eta)
            moved = method(eta).fixed_point - functions.optimum
            left.append(np.linalg.norm(moved - bias) / np.linalg.norm(bias))
        assert left[0] < 0.01, name
        assert abs(left[0] / left[1] - 2) < 0.02, name
    mean = np.einsum("k,kij,kj->i", functions.p, functions.A, functions.gradients(functions.optimum))
    expected = 4 * 0.01 / 2 * np.linalg.solve(functions.hessian, mean)
    close(oracles.drift_bias(functions, learning_rate=0.01, steps=5), expected, 1e-15)
