"""Inexact local work: when it stops, what is reported of it, and how inexact it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import compile_count
from reference import prox, quadratics
from reference.batches import recorded
from reference.models import Softmax
from reference.nova import weights_of_gradients
from reference.setting import BATCH, COHORTS, RATE, server_start, softmax_start
from reference.straggling import WORK, rounds_of, straggling

import fedjax_het as fh
from fedjax_het import local
from fedjax_het.algorithms import fedavg, fednova, fedprox
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool
from fedjax_het.problem import Model, objective
from fedjax_het.problem import prox as held_by

MU, ETA = 0.8, 0.2
A, POINTS = quadratics.functions(clients=5)
SIZES = [1, 2, 0, 3, 6]
START = np.array([1.0, -2.0, 0.5])


def bench(solver, mu=MU, build=fedprox, rounds=1, executor=None, measured=True, **options):
    """(state, log) of everyone on the quadratics, the empty client too."""
    federation = quadratic_federation(A, POINTS, sizes=SIZES)
    problem = quadratic(Pool(federation.x, federation.y, federation.spec.pool), start=tuple(START))
    algorithm = build(problem, solver, **({} if mu is None else {"mu": mu}), **options)
    measures = {"inexactness": fh.analysis.inexactness()} if measured else {}
    sampler = fh.sampling.everyone()
    if executor is None:
        return rounds_of(algorithm, federation, jax.random.key(0), sampler, rounds, measures=measures)
    round_fn = fh.make_round(sampler, executor, measures)
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    return jax.jit(block, static_argnames="rounds")(round_fn, algorithm, state, federation, rounds=rounds)


def gammas(log):
    """gamma_k of round 0, [C]."""
    return np.asarray(log["measures"]["inexactness"]["gamma"])[0]


def slopes(k, steps, mu=MU, eta=ETA):
    """(I - eta H)^E g for E = 0, 1, ..., steps: the gradient of h after each step of gradient descent."""
    identity = np.eye(3)
    shrink = identity - eta * (A[k] + mu * identity)
    return [np.linalg.matrix_power(shrink, step) @ A[k] @ (START - POINTS[k]) for step in range(steps + 1)]


PRESENT = [k for k, size in enumerate(SIZES) if size]


@pytest.mark.parametrize(("mu", "build"), [(None, fedavg), (MU, fedprox), (MU, fednova)])
def test_gamma_in_closed_form(x64, mu, build):
    """On quadratics what is left after E steps is exactly (I - eta H)^E g, and at most max |1 - eta h|^E."""
    steps = 4
    _, log = bench(local.sgd(ETA, batch_size=None, steps=steps), mu, build)
    gamma = gammas(log)
    for k in PRESENT:
        path = slopes(k, steps, mu or 0.0)
        np.testing.assert_allclose(gamma[k], np.linalg.norm(path[-1]) / np.linalg.norm(path[0]), rtol=1e-10)
        assert gamma[k] <= np.abs(1 - ETA * (np.linalg.eigvalsh(A[k]) + (mu or 0.0))).max() ** steps
    assert np.isnan(gamma[SIZES.index(0)])
    np.testing.assert_array_equal(log["measures"]["inexactness"]["worst"], [np.nanmax(gamma)])


def test_the_objective_that_is_measured_holds_the_proximal_term(x64):
    """Without it the same local work looks worse: the end of a heavily held client is no minimum of F_k."""
    _, log = bench(local.sgd(0.1, batch_size=None, steps=60), mu=5.0)
    assert np.nanmax(log["measures"]["inexactness"]["gamma"]) < 1e-10
    _, log = bench(local.sgd(0.1, batch_size=None, steps=1, momentum=0.5), mu=5.0)
    end = [START - 0.1 * A[k] @ (START - POINTS[k]) for k in PRESENT]
    left = [A[k] @ (w - POINTS[k]) + 5.0 * (w - START) for k, w in zip(PRESENT, end)]
    expected = [np.linalg.norm(g) / np.linalg.norm(A[k] @ (START - POINTS[k])) for k, g in zip(PRESENT, left)]
    np.testing.assert_allclose(gammas(log)[PRESENT], expected, rtol=1e-10)


@pytest.mark.parametrize("executor", [fh.executors.vmapped(), fh.executors.looped()], ids=["vmapped", "looped"])
@pytest.mark.parametrize("most", [None, 30])
def test_it_stops_at_the_first_epoch_that_is_exact_enough(x64, executor, most):
    """Each client at its own, the plan being the most; the reported steps are those taken."""
    plan, gamma = 6, 0.03
    solver = local.inexact(local.sgd(ETA, batch_size=None, epochs=plan), gamma)
    solver = solver if most is None else local.scanned(solver, most)
    _, log = bench(solver, executor=executor)
    steps, left = np.asarray(log["info"]["steps"])[0], gammas(log)
    for k in PRESENT:
        path = [np.linalg.norm(slope) for slope in slopes(k, plan)]
        first = next((j for j in range(1, plan) if path[j] <= gamma * path[0]), plan)
        assert steps[k] == first
        np.testing.assert_allclose(left[k], path[first] / path[0], rtol=1e-9)
        assert left[k] <= gamma or first == plan
    taken = steps[PRESENT]
    assert steps[SIZES.index(0)] == 0 and len(set(taken)) > 2 and taken.max() == plan > taken.min()


def test_fewer_steps_are_accounted_for(x64):
    """With normalised averaging and a pull outside the momentum buffer, whose term is part of the question."""
    gamma, momentum = 0.2, 0.5
    solver = local.inexact(local.sgd(0.1, batch_size=None, epochs=15, momentum=momentum), gamma)
    _, log = bench(solver, build=fednova)
    steps, left = np.asarray(log["info"]["steps"])[0], gammas(log)
    for k in PRESENT:
        w, velocity, first = START.copy(), np.zeros(3), 15
        for j in range(1, 16):
            velocity = momentum * velocity + A[k] @ (w - POINTS[k])
            w = w - 0.1 * (velocity + MU * (w - START))
            now = np.linalg.norm(A[k] @ (w - POINTS[k]) + MU * (w - START))
            if now <= gamma * np.linalg.norm(A[k] @ (START - POINTS[k])):
                first = j
                break
        assert steps[k] == first
        np.testing.assert_allclose(left[k], now / np.linalg.norm(A[k] @ (START - POINTS[k])), rtol=1e-9)
    counts = [weights_of_gradients([0.1] * int(n), momentum, MU).sum() for n in steps[PRESENT]]
    np.testing.assert_allclose(np.asarray(log["info"]["accumulated"])[0][PRESENT], counts, rtol=1e-12)
    assert min(steps[PRESENT]) < 15


EPOCHS = 6


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])
def test_three_rounds_are_the_loop(settings, x64):
    """Minibatches, momentum, stragglers, partial participation, an empty client."""
    setting, start, gamma = settings[x64], softmax_start(), 0.4
    with jax.enable_x64(x64):
        plain = local.sgd(RATE, batch_size=BATCH, epochs=EPOCHS, momentum=0.5)
        batches = recorded(plain.plan, setting.federation, setting.key, len(COHORTS))
        algorithm = fedprox(setting.problem, local.inexact(plain, gamma), mu=0.7)
        state, log = rounds_of(algorithm, setting.federation, setting.key, straggling(), 3, server_start(start))
    data = (setting.x, setting.y, setting.held, batches, COHORTS)
    numbers = {"rate": RATE, "batch_size": BATCH, "mu": 0.7, "momentum": 0.5, "work": WORK}
    expected, _, steps = prox.fedprox(Softmax, start, *data, gamma=gamma, **numbers)
    np.testing.assert_array_equal(log["info"]["steps"], steps)
    setting.same(state.server.params["head"], expected)
    _, _, whole = prox.fedprox(Softmax, start, *data, **numbers)
    fewer = np.array(steps) < np.array(whole)
    assert fewer.any() and (np.array(steps) == np.array(whole)).any() and not fewer.all()


# --- one client -----------------------------------------------------------------------------------------------


def client(size=7, capacity=20):
    """(problem, data): softmax regression, rows of three classes."""
    rng = np.random.default_rng(1)
    pool = fh.pool(rng.normal(size=(27, 4)), rng.integers(0, 3, 27), num_classes=3)
    parts = [np.arange(size), np.arange(size, size + capacity)]
    federation = fh.from_index_lists(pool, None, parts, test=0.0)
    located = federation.locate("train", jnp.int32(0), jnp.int32(0))
    return fh.models.softmax(pool), federation.data("train", located)


@jax.jit
def solve(solver, problem, data):
    start = problem.init(jax.random.key(3))
    start = Model(jax.tree.map(lambda leaf: leaf + 0.5, start.params), start.buffers)
    return solver.solve(jax.random.key(5), held_by(objective(problem), start.params, 0.1), start, data)


PLAIN = {
    "momentum": lambda epochs: local.sgd(0.3, batch_size=3, epochs=epochs, momentum=0.5),
    "adam": lambda epochs: local.from_optax(optax.adam, learning_rate=0.1, batch_size=3, epochs=epochs),
}


@pytest.mark.parametrize("rule", PLAIN)
def test_what_is_done_is_done_as_without(rule):
    """The same steps, bit for bit: gamma = 0 does them all, a larger one is a shorter plan; both loops."""
    problem, data = client()
    whole = PLAIN[rule](8)
    never = solve(local.inexact(whole, 0.0), problem, data)
    gamma = 0.2
    early = solve(local.inexact(whole, gamma), problem, data)
    assert int(never.steps) == 24 > int(early.steps) > 3 and int(early.steps) % 3 == 0
    plain = [solve(whole, problem, data), solve(PLAIN[rule](int(early.steps) // 3), problem, data)]
    static = [solve(local.scanned(local.inexact(whole, g), 24), problem, data) for g in (0.0, gamma)]
    for stopped, straight, scan in zip((never, early), plain, static):
        for a, b, c in zip(*map(jax.tree.leaves, (stopped, straight, scan))):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_gamma_is_a_leaf_and_steps_fall_as_it_grows():
    problem, data = client()
    whole = PLAIN["momentum"](8)
    grid = [0.0, 0.05, 0.1, 0.2, 0.95]
    first = solve(local.inexact(whole, 0.05), problem, data)
    with compile_count() as count:
        steps = [int(solve(local.inexact(whole, gamma), problem, data).steps) for gamma in grid]
    assert count.value == 0
    together = jax.vmap(lambda gamma: solve(local.inexact(whole, gamma), problem, data))(jnp.array(grid))
    np.testing.assert_array_equal(together.steps, steps)
    assert steps == sorted(steps, reverse=True) and len(set(steps)) > 2
    assert int(first.steps) == steps[1]


@pytest.mark.parametrize("most", [None, 24])
def test_an_empty_client_and_one_at_its_minimum(most):
    problem, data = client()
    solver = local.inexact(PLAIN["momentum"](8), 0.5)
    solver = solver if most is None else local.scanned(solver, most)
    empty = solve(solver, problem, dataclasses.replace(data, size=jnp.int32(0)))
    assert int(empty.steps) == 0
    np.testing.assert_array_equal(empty.params["head"]["bias"], 0.5)
    federation = quadratic_federation(A, POINTS)
    bowl = quadratic(Pool(federation.x, federation.y, federation.spec.pool))
    there = Model({"w": jnp.zeros(3)}, ())
    flat = dataclasses.replace(
        federation.data("train", federation.locate("train", jnp.int32(0), jnp.int32(0))),
        x=jnp.zeros_like(federation.x),
        y=jnp.zeros_like(federation.y),
    )
    still = jax.jit(lambda: solver.solve(jax.random.key(0), objective(bowl), there, flat))()
    assert int(still.steps) == 1, "nothing is left to do after the first epoch"


def test_a_static_loop_that_is_too_short_says_so_unless_it_stopped():
    problem, data = client()
    plain = PLAIN["momentum"](8)
    assert np.isnan(solve(local.scanned(local.inexact(plain, 0.0), 12), problem, data).loss)
    early = solve(local.scanned(local.inexact(plain, 0.5), 12), problem, data)
    assert np.isfinite(early.loss) and int(early.steps) <= 12


def test_reverse_mode_passes_the_question_by(x64):
    """The derivative of the end with respect to the rate is that of the steps taken."""
    problem, data = client()
    data = dataclasses.replace(data, differentiable=True)
    taken = int(solve(local.inexact(PLAIN["momentum"](8), 0.1), problem, data).steps)

    def end(rate, inexact):
        work = {"epochs": 8} if inexact else {"steps": taken}
        solver = local.sgd(rate, batch_size=3, momentum=0.5, **work)
        solver = local.scanned(local.inexact(solver, 0.1) if inexact else solver, 24)
        return jnp.sum(solve(solver, problem, data).params["head"]["kernel"] ** 2)

    slope, expected = (jax.grad(end)(jnp.asarray(0.3), inexact) for inexact in (True, False))
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
    assert abs(float(expected)) > 1e-3


def names(jaxpr):
    """How often each primitive is there, however deep."""
    found = []
    for equation in jaxpr.eqns:
        found.append(equation.primitive.name)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            if hasattr(value, "eqns"):
                found += names(getattr(value, "jaxpr", value))
    return found


def test_it_costs_nothing_unused():
    """One loop and no branch without gamma, and no other operation than a bare loop of the same steps has."""
    problem, data = client()
    plain = local.sgd(0.3, batch_size=3, epochs=8)
    programs = {
        name: names(jax.make_jaxpr(solve)(solver, problem, data).jaxpr)
        for name, solver in (("plain", plain), ("inexact", local.inexact(plain, 0.3)))
    }
    assert programs["plain"].count("while") == 1 and programs["plain"].count("cond") == 0
    assert programs["inexact"].count("while") == 2 and programs["inexact"].count("cond") == 1


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gamma", "error", "words"),
    [
        (1, ValueError, r"gamma must be < 1"),
        (-0.1, ValueError, r"gamma must be >= 0"),
        ("little", TypeError, r"gamma must be a number, got 'little'"),
        (np.nan, ValueError, r"gamma must be finite"),
    ],
)
def test_bad_gamma(gamma, error, words):
    with pytest.raises(error, match=words):
        local.inexact(local.sgd(0.1, batch_size=4), gamma)


def test_the_measure_says_what_it_cannot_measure(settings):
    setting = settings[False]
    measures = {"inexactness": fh.analysis.inexactness()}
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), measures)
    many = fh.algorithms.ifca(setting.problem, setting.solver())
    with pytest.raises(TypeError, match=r"algorithm must have an objective .*, got Ifca"):
        fh.initial_state(many, setting.federation, key=setting.key, round_fn=round_fn)
    algorithm = fedprox(setting.problem, setting.solver())
    state = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    with pytest.raises(TypeError, match=r"report must hold the model .* in a round"):
        fh.survey(measures["inexactness"], algorithm, state, setting.federation, executor=round_fn.executor)


def test_no_work_is_gamma_one_and_nobody_is_nan(settings):
    setting = settings[False]
    algorithm = fedprox(setting.problem, setting.solver())
    measures = {"inexactness": fh.analysis.inexactness()}
    work = np.full((2, 9), 0.01)
    sampler = straggling([[1], [4]], work)
    _, log = rounds_of(algorithm, setting.federation, setting.key, sampler, 2, measures=measures)
    assert not np.asarray(log["info"]["steps"]).any()
    got = log["measures"]["inexactness"]
    np.testing.assert_allclose(got["gamma"], [[1.0], [np.nan]], rtol=1e-6)
    np.testing.assert_allclose(got["worst"], [1.0, np.nan], rtol=1e-6)
