"""What holds of rounds on quadratics whatever the numbers: reductions, fixed points, other forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics

from fedjax_het.analysis import oracles

WEIGHTS = np.array([1.0, 2.0, 3.0, 6.0])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(got, expected, digits=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


def many():
    """Four clients in space."""
    return oracles.quadratics(*quadratics.functions(), weights=WEIGHTS)


def solved(functions):
    """The flat state (w*, g_k*)."""
    best = functions.optimum
    return oracles.joint(best, functions.gradients(best))


def averages(functions, steps):
    """All methods without memory, of equal steps."""
    local = {"learning_rate": 0.2, "steps": steps}
    return {
        "fedavg": oracles.fedavg(functions, **local),
        "fedprox": oracles.fedprox(functions, mu=0.7, **local),
        "fedprox, exact": oracles.fedprox(functions, mu=0.7),
        "fednova": oracles.fednova(functions, momentum=0.5, mu=0.3, **local),
    }


def test_equal_curvatures_or_equal_minima_have_no_bias():
    A, a = quadratics.functions()
    alike = oracles.quadratics(np.broadcast_to(A[0], A.shape), a, weights=WEIGHTS)
    agreed = oracles.quadratics(A, np.broadcast_to(a[0], a.shape), weights=WEIGHTS)
    unlike = many()
    for steps in (2, 20):
        for functions in (alike, agreed):
            for name, round_map in averages(functions, steps).items():
                np.testing.assert_allclose(round_map.fixed_point, functions.optimum, atol=1e-11, err_msg=name)
        for name, round_map in averages(unlike, steps).items():
            assert np.linalg.norm(round_map.fixed_point - unlike.optimum) > 1e-3, name
    close(agreed.optimum, a[0], 1e-13)


def same_map(one, other, digits=1e-14):
    close(one.matrix, other.matrix, digits)
    close(one.offset, other.offset, digits)


def test_reductions():
    f = many()
    local = {"learning_rate": 0.2, "steps": 4}
    descent = oracles.Affine(np.eye(3) - 0.2 * f.hessian, 0.2 * f.p @ f.b)
    one = {"learning_rate": 0.2, "steps": 1}
    same_map(oracles.fedavg(f, **one), descent)
    same_map(oracles.fedprox(f, mu=5.0, **one), descent)
    same_map(oracles.fednova(f, **one), descent)
    same_map(oracles.scaffold_fresh(f, **one), descent)
    same_map(oracles.fedprox(f, mu=0.0, **local), oracles.fedavg(f, **local))
    same_map(oracles.fednova(f, **local), oracles.fedavg(f, **local))
    same_map(oracles.fednova(f, mu=0.7, **local), oracles.fedprox(f, mu=0.7, **local))
    same_map(
        oracles.fedprox(f, mu=0.7), oracles.fedavg(oracles.envelope(f, 0.7), learning_rate=1 / 0.7, steps=1)
    )
    same_map(oracles.fedprox(f, mu=0.7, learning_rate=0.3, steps=500), oracles.fedprox(f, mu=0.7), 1e-13)
    same_map(oracles.feddyn(f, alpha=0.7, learning_rate=0.3, steps=500), oracles.feddyn(f, alpha=0.7), 1e-13)
    same_map(oracles.fedavg(f, learning_rate=[0.2] * 4), oracles.fedavg(f, **local))
    same_map(oracles.fednova(f, momentum=0.0, **local), oracles.fedavg(f, **local))
    same_map(oracles.fedavg(f, present=[True] * 4, **local), oracles.fedavg(f, **local), 0)
    # the control of one step does not matter
    joint = oracles.scaffold(f, option="I", **one)
    same_map(oracles.Affine(joint.matrix[:3, :3], joint.offset[:3]), descent)
    close(joint.matrix[:3, 3:], 0, 1e-15)


def test_endless_local_work_finds_the_mean_of_the_minima():
    f = many()
    _, a = quadratics.functions()
    close(oracles.fedavg(f, learning_rate=0.2, steps=10**6).fixed_point, f.p @ a)
    close(oracles.fedprox(f, mu=1e-9).fixed_point, f.p @ a, 1e-8)


def test_absent_clients_do_not_matter_whatever_they_hold():
    A, a = quadratics.functions()
    here = np.array([True, False, True, True])
    left = oracles.quadratics(A[here], a[here], weights=WEIGHTS[here])
    wild = oracles.quadratics(np.where(here[:, None, None], A, 1e200 * A), a, weights=WEIGHTS)
    local = {"learning_rate": 0.2, "steps": 6}
    same_map(oracles.fedavg(wild, present=here, **local), oracles.fedavg(left, **local))
    same_map(oracles.fedprox(wild, mu=0.7, present=here, **local), oracles.fedprox(left, mu=0.7, **local))
    same_map(oracles.fednova(wild, present=here, **local), oracles.fednova(left, **local))


def test_the_optimum_is_a_fixed_point_whoever_takes_part():
    functions = many()
    subsets = [bits for bits in itertools.product([False, True], repeat=4) if any(bits)]
    local = {"learning_rate": 0.2, "steps": jnp.asarray([3, 1, 6, 2], jnp.int32)}
    methods = {
        "scaffold I": lambda here: oracles.scaffold(functions, option="I", present=here, **local),
        "scaffold II": lambda here: oracles.scaffold(functions, option="II", present=here, **local),
        "feddyn": lambda here: oracles.feddyn(functions, alpha=0.7, present=here, **local),
        "feddyn, exact": lambda here: oracles.feddyn(functions, alpha=0.7, present=here),
    }
    state = solved(functions)
    for name, method in methods.items():
        maps = jax.jit(jax.vmap(method))(jnp.asarray(subsets))
        after = jax.vmap(lambda m: m(state))(maps)
        np.testing.assert_allclose(after, np.tile(state, (15, 1)), rtol=0, atol=1e-13, err_msg=name)
        everyone = jax.tree.map(lambda leaf: leaf[-1], maps)
        np.testing.assert_allclose(everyone.fixed_point, state, rtol=0, atol=1e-11, err_msg=name)


def test_a_round_without_anybody_changes_nothing():
    """Such a mask can only be traced; a concrete one is refused."""
    functions, local = many(), {"learning_rate": 0.2, "steps": 3}

    @jax.jit
    def rounds(here):
        return {
            "fedavg": oracles.fedavg(functions, present=here, **local),
            "fednova": oracles.fednova(functions, present=here, **local),
            "scaffold": oracles.scaffold(functions, present=here, **local),
            "feddyn": oracles.feddyn(functions, alpha=0.7, present=here, **local),
        }

    for name, round_map in rounds(jnp.zeros(4, bool)).items():
        assert (round_map.matrix == np.eye(round_map.offset.shape[0])).all(), name
        assert (round_map.offset == 0).all(), name


def test_feddyn_is_a_splitting():
    functions = many()
    best, state = np.asarray(functions.optimum), np.random.default_rng(3).normal(size=15)
    own = np.asarray(functions.gradients(best))
    rates = []
    for alpha in (0.01, 0.3, 1.0, 3.0, 100.0):
        feddyn = oracles.feddyn(functions, alpha=alpha)
        splitting = oracles.douglas_rachford(functions, alpha=alpha)
        path = oracles.split(np.asarray(feddyn.trajectory(state, 3)), 4)
        errors = path.control - own + alpha * (path.point - best)[:, None]
        for before, after in itertools.pairwise(errors):
            close(splitting(before.ravel()), after.ravel(), 1e-12 * max(1, alpha))
        close(splitting.rate, feddyn.rate, 1e-10)
        rates.append(float(feddyn.rate))
        equal = oracles.douglas_rachford(oracles.quadratics(functions.A, b=functions.b), alpha=alpha)
        assert jnp.linalg.norm(equal.matrix, 2) <= 1 + 1e-14
    assert max(rates) < 1 and min(rates) == min(rates[1:4])


def test_feddyn_of_the_authors_for_unequal_sizes():
    """alpha_k = alpha / (N p_k) and an equal mean: the paper's method on N p_k F_k."""
    f = many()
    scale, alpha = 4 * np.asarray(f.p), 0.7
    A, b = scale[:, None, None] * f.A, scale[:, None] * f.b
    path = oracles.feddyn(oracles.quadratics(A, b=b), alpha=alpha).trajectory(np.zeros(15), 5)
    th, memory = np.zeros(3), np.zeros((4, 3))  # memory: minus lambda_k / alpha_k
    for got in path[1:]:
        ends = [
            np.linalg.solve(f.A[k] + alpha / scale[k] * np.eye(3), f.b[k] + alpha / scale[k] * (th - memory[k]))
            for k in range(4)
        ]
        memory = memory + np.array(ends) - th
        th = np.mean(ends, axis=0) + np.mean(memory, axis=0)
        close(got[:3], th, 1e-13)


def test_momentum_at_the_server_does_not_move_the_limit():
    functions = many()
    plain = oracles.fedavg(functions, learning_rate=0.05, steps=3)
    for nesterov in (False, True):
        moving = oracles.server_momentum(plain, beta=0.9, server_learning_rate=0.3, nesterov=nesterov)
        close(moving.fixed_point, np.concatenate([plain.fixed_point, np.zeros(3)]))
        assert moving.rate < 1
        still = oracles.server_momentum(plain, beta=0.0, nesterov=nesterov)
        close(still.matrix[:3, :3], plain.matrix, 1e-15)
        close(still.rate, plain.rate, 1e-12)
