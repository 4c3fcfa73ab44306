"""Fixed points and trajectories on quadratics, where the limits of the methods are known in closed form."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import quadratics

import fedjax_het as fh
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

SIZES = np.array([1, 2, 3, 6])
SHARES = SIZES / SIZES.sum()
RATE = 0.3
MANY = 400

many_rounds = jax.jit(block, static_argnames="rounds")


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def problem_of(federation, start=None):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool), start=start)


def solver(steps, rate=RATE):
    return fh.local.sgd(rate, batch_size=None, steps=steps)


@functools.cache
def everyone_present():
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


def begin(algorithm, federation, start=None, **server):
    """The state before round 0, with other values in the server's state."""
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=everyone_present())
    if start is not None:
        server["params"] = {"w": jnp.asarray(start, jnp.float64)}
    return dataclasses.replace(state, server=dataclasses.replace(state.server, **server))


def end(algorithm, federation, state, rounds=MANY, round_fn=None):
    round_fn = everyone_present() if round_fn is None else round_fn
    state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=rounds)
    return state


def point(state):
    return np.asarray(state.server.params["w"])


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


@pytest.mark.parametrize("mu", [None, 0.8])
def test_fixed_points_of_fedavg_and_fedprox(mu):
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=SIZES)
    best = quadratics.optimum(A, a, SHARES)
    for steps in (1, 2, 5, 20):
        problem = problem_of(federation)
        if mu is None:
            algorithm = fh.algorithms.fedavg(problem, solver(steps))
        else:
            algorithm = fh.algorithms.fedprox(problem, solver(steps), mu=mu)
        limit = quadratics.fedprox_limit(A, a, SHARES, rate=RATE, steps=steps, mu=mu or 0.0)
        reached = end(algorithm, federation, begin(algorithm, federation))
        close(point(reached), limit)
        stayed = end(algorithm, federation, begin(algorithm, federation, limit))
        close(point(stayed), limit)
        bias = np.linalg.norm(limit - best)
        assert bias < 1e-12 if steps == 1 else bias > 1e-3, "only one step a round is unbiased"


def test_one_full_step_is_gradient_descent():
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=SIZES)
    algorithm = fh.algorithms.fedavg(problem_of(federation), solver(1))
    w = np.array([1.0, -2.0, 0.5])
    state = begin(algorithm, federation, w)
    for _ in range(3):
        state = end(algorithm, federation, state, rounds=1)
        w = w - RATE * sum(p * M @ (w - m) for p, M, m in zip(SHARES, A, a))
        close(point(state), w, 1e-14)


def test_unequal_steps_pull_fedavg_towards_those_who_work_more():
    a = np.array([[-1.0], [1.0]])
    federation = quadratic_federation(np.ones((2, 1, 1)), a, sizes=[1, 10])
    uniform = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), weighting=fh.weighting.uniform())
    for rate, printed in ((0.05, 0.778), (0.001, 0.8174)):
        limit = quadratics.unequal_steps_limit(a, [0.5, 0.5], rate=rate, steps=[1, 10])
        assert abs(limit[0] - printed) < 5e-4
        local = fh.local.sgd(rate, batch_size=1, epochs=1)
        algorithm = fh.algorithms.fedavg(problem_of(federation), local)
        stayed = end(algorithm, federation, begin(algorithm, federation, limit), 20, uniform)
        close(point(stayed), limit)
        reached = end(algorithm, federation, begin(algorithm, federation, limit + 1e-3), 20, uniform)
        assert abs(point(reached) - limit) < 1e-3


@pytest.mark.parametrize("option", ["I", "II"])
def test_scaffold_finds_the_uniform_optimum(option):
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=SIZES)
    uniform = np.full(len(a), 1 / len(a))
    best = quadratics.optimum(A, a, uniform)
    own = np.einsum("nij,nj->ni", A, best - a)  # gradients there; their mean is zero
    close(own.mean(axis=0), 0, 1e-12)
    for steps in (1, 2, 5):
        algorithm = fh.algorithms.scaffold(problem_of(federation), solver(steps, 0.1), option=option)
        reached = end(algorithm, federation, begin(algorithm, federation), 1200)
        close(point(reached), best)
        close(reached.clients.control["w"], own, 1e-8)
        state = begin(algorithm, federation, best, control={"w": jnp.asarray(own.mean(axis=0))})
        controls = dataclasses.replace(state.clients, control={"w": jnp.asarray(own)})
        stayed = end(algorithm, federation, dataclasses.replace(state, clients=controls), 1200)
        close(point(stayed), best)
        close(stayed.clients.control["w"], own)


def test_scaffold_of_one_step_is_gradient_descent_whatever_the_controls():
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a)
    algorithm = fh.algorithms.scaffold(problem_of(federation), solver(1), option="I")
    controls = np.random.default_rng(5).normal(size=a.shape)
    w = np.array([1.0, -2.0, 0.5])
    state = begin(algorithm, federation, w, control={"w": jnp.asarray(controls.mean(axis=0))})
    own = dataclasses.replace(state.clients, control={"w": jnp.asarray(controls)})
    state = dataclasses.replace(state, clients=own)
    for _ in range(3):
        state = end(algorithm, federation, state, rounds=1)
        w = w - RATE * np.mean([M @ (w - m) for M, m in zip(A, a)], axis=0)
        close(point(state), w, 1e-14)


PAIR_RATE, PAIR_MU = 0.05, 1.0


def pair(G):
    """f_1 = mu x^2 + G x and f_2 = -G x, whose mean has its minimum at 0 whatever G."""
    return quadratic_federation([[[2 * PAIR_MU]], [[0.0]]], b=[[-G], [G]])


PRINTED = {
    ("II", 2): (0.9025, 0.814325, 0.73475975),
    ("II", 10): (0.58716961, 0.32397897, 0.17258727),
    ("I", 2): (0.9025, 0.8142625, 0.73465131),
    ("I", 10): (0.58716961, 0.30878189, 0.15704039),
}


@pytest.mark.parametrize("option", ["I", "II"])
def test_scaffold_of_the_pair_does_not_see_how_far_apart_they_are(option):
    for steps in (2, 10):
        paths = []
        for G in (1.0, 10.0, 100.0):
            federation = pair(G)
            algorithm = fh.algorithms.scaffold(problem_of(federation), solver(steps, PAIR_RATE), option=option)
            own = jnp.asarray([[2 * PAIR_MU + G], [-G]])
            state = begin(algorithm, federation, [1.0], control={"w": own.mean(axis=0)})
            controls = dataclasses.replace(state.clients, control={"w": own})
            state = dataclasses.replace(state, clients=controls)
            path = []
            for _ in range(3):
                state = end(algorithm, federation, state, rounds=1)
                path.append(float(point(state)[0]))
            close(path, PRINTED[option, steps], 5.1e-9)
            paths.append(path)
        close(paths[1], paths[0], 1e-12)
        close(paths[2], paths[0], 1e-11)


def test_first_round_of_scaffold_without_controls_is_fedavg():
    after = {}
    for G in (1.0, 10.0):
        federation = pair(G)
        problem, local = problem_of(federation), solver(10, PAIR_RATE)
        scaffold = fh.algorithms.scaffold(problem, local)
        fedavg = fh.algorithms.fedavg(problem, local)
        states = [end(m, federation, begin(m, federation, [1.0]), rounds=1) for m in (scaffold, fedavg)]
        close(point(states[0]), point(states[1]), 1e-14)
        after[G] = point(states[0])
    assert abs(after[1.0] - after[10.0]) > 0.1


def test_fixed_point_of_fedavg_on_the_pair_is_linear_in_how_far_apart_they_are():
    printed = {1: 0.0, 2: 0.02632, 10: 0.26767}
    for steps, slope in printed.items():
        rho = (1 - 2 * PAIR_RATE * PAIR_MU) ** steps
        for G in (1.0, 10.0, 100.0):
            federation = pair(G)
            algorithm = fh.algorithms.fedavg(problem_of(federation), solver(steps, PAIR_RATE))
            limit = (steps * PAIR_RATE * G - (1 - rho) * G / (2 * PAIR_MU)) / (1 - rho)
            close(limit, slope * G, 5.1e-6 * G)
            reached = end(algorithm, federation, begin(algorithm, federation, [1.0]))
            close(point(reached), limit, 1e-7 * G if steps == 1 else 1e-9 * G)
            stayed = end(algorithm, federation, begin(algorithm, federation, [limit]))
            close(point(stayed), limit, 1e-9)
