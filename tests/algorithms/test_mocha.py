"""MOCHA: against loops, against linear systems, the duality gap, the covariance's step, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import SIZES as TASKS
from probes.blobs import pool_of, tasks
from reference import mocha as loops
from reference.batches import recorded
from reference.late import late
from reference.setting import CLASSES, COHORTS, SIZES, Setting
from taking import rows_of

import fedjax_het as fh
from fedjax_het.algorithms import dual, task_covariance
from fedjax_het.algorithms.duality_gap import duality_gap
from fedjax_het.algorithms.mocha import mocha
from fedjax_het.algorithms.mocha_primal import mocha_primal
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.models import linear, mlp, softmax

many_rounds = jax.jit(block, static_argnames="rounds")
_initial = jax.jit(
    lambda round_fn, algorithm, federation, key: initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)

FIXED = [0, 0, 1, 1, 0, 2, 2, 1, 0]
"""Clusters of the setting's nine clients."""


def run(algorithm, federation, rounds, sampler=None, state=None):
    """(first state, last state, log) with the gap of everybody measured before each round."""
    sampler = fh.sampling.everyone() if sampler is None else sampler
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), {"gap": duality_gap()})
    first = _initial(round_fn, algorithm, federation, jax.random.key(0)) if state is None else state
    state, log = many_rounds(round_fn, algorithm, first, federation, rounds=rounds)
    return first, state, log


def gaps(log):
    return {name: np.asarray(value, np.float64) for name, value in log["measures"]["gap"].items()}


def weights(algorithm, state):
    """W' [N, d] as the models are served."""
    served = jax.vmap(lambda row: row @ state.server.images / algorithm.strength)(state.server.relation)
    return np.asarray(served, np.float64)


def signed(federation):
    return dataclasses.replace(federation, y=jnp.where(federation.y > 0, 1.0, -1.0).astype(federation.y.dtype))


def plain(federation, loss=None, **options):
    """On `tasks`: no bias, one pass a round."""
    solver = fh.local.sgd(0.1, batch_size=4, epochs=3)
    return mocha(linear(pool_of(federation), bias=False), solver, loss=loss, **options)


# --- against the loop -----------------------------------------------------------------------------------------

WORK = [[1, 1, 0.1, 1, 0.5], [0.2, 0.0, 1, 1, 0.7], [1, 0.3, 0.5, 0.1, 1]]
"""Fractions of work in `COHORTS`; client 3 is dropped in the second round."""


@pytest.fixture(scope="module")
def related(settings):
    """x64 or not -> (setting, visits)."""
    made = {}
    for x64, setting in settings.items():
        with jax.enable_x64(x64):
            plan = dataclasses.replace(setting.solver().plan, batch_size=1)
            made[x64] = setting, recorded(plan, setting.federation, setting.key, len(COHORTS))
    return made


def subject(setting, loss):
    """(federation, problem, targets [M, K]) of a loss on the setting's rows."""
    if loss == "softmax":
        return setting.federation, setting.problem, np.eye(CLASSES)[setting.y]
    real = setting.x @ np.array([1.0, -0.5, 0.3, 0.2]) + 0.1 * np.cos(np.arange(len(setting.x)))
    y = (real if loss == "squared" else np.where(real > 0, 1.0, -1.0)).astype(np.float32)
    pool = fh.pool(setting.x, y, task="regression")
    federation = fh.from_index_lists(pool, None, setting.held, test=0.0)
    return federation, linear(pool), y.astype(np.float64)[:, None]


@pytest.mark.parametrize(
    ("loss", "prior", "partial", "x64"),
    [
        ("softmax", "learned", True, True),
        ("squared", "clustered", True, True),
        ("hinge", "learned", False, True),
        ("logistic", "clustered", True, True),
        ("softmax", "clustered", True, False),
        ("squared", "learned", False, False),
        ("hinge", "learned", True, False),
        ("logistic", "independent", False, False),
    ],
)
def test_it_is_the_loop_of_the_paper(related, loss, prior, partial, x64):
    """Three rounds, a Sigma-step after the second; `partial`: nodes stop part of the way, or are dropped."""
    setting, visits = related[x64]
    done = [[0] * len(SIZES) for _ in COHORTS]
    for t, cohort in enumerate(COHORTS):
        for k, work in zip(cohort, WORK[t]):
            done[t][k] = int(np.round((work if partial else 1.0) * len(visits[t][k])))
    with jax.enable_x64(x64):
        federation, problem, targets = subject(setting, loss)
        given = task_covariance.clustered(FIXED, ridge=0.3) if prior == "clustered" else prior
        algorithm = mocha(problem, setting.solver(), strength=0.05, prior=given, loss=loss, inner=2)
        sampler = late(COHORTS, WORK) if partial else fh.sampling.scripted(COHORTS)
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        state = _initial(round_fn, algorithm, federation, setting.key)
        first = np.asarray(state.server.relation, np.float64)
        state, log = many_rounds(round_fn, algorithm, state, federation, rounds=len(COHORTS))
        got = weights(algorithm, state)
    ones = np.concatenate([np.ones((len(setting.x), 1)), setting.x], axis=1)
    models, sigma, alpha = loops.mocha(
        ones,
        targets,
        setting.held,
        visits,
        COHORTS,
        strength=0.05,
        loss=loss,
        sigma=first,
        inner=2 if prior == "learned" else None,
        work=done,
    )
    limit = {"rtol": setting.tolerance, "atol": setting.tolerance}
    for k in range(len(SIZES)):
        flat = np.concatenate([models[k][:, 0], models[k][:, 1:].T.ravel()])
        np.testing.assert_allclose(got[k], flat, **limit)
        mine = np.asarray(state.clients[k], np.float64)
        np.testing.assert_allclose(mine[: SIZES[k]], alpha[setting.held[k]], **limit)
        assert np.all(mine[SIZES[k] :] == 0), "rows that do not exist"
    np.testing.assert_allclose(state.server.relation, sigma, **limit)
    steps = [[done[t][k] for k in cohort] for t, cohort in enumerate(COHORTS)]
    np.testing.assert_array_equal(np.asarray(log["info"]["steps"]), steps)
    assert np.abs(models).max() > 0.05 and (prior != "learned" or np.abs(sigma - first).max() > 0.01)


def test_a_row_of_zeros_moves_its_own_variable_only():
    for loss, y, best in (("hinge", [-1.0], [-1.0]), ("squared", [2.0], [2.0]), ("logistic", [1.0], [0.5])):
        zero = jnp.zeros(1)
        change = dual.LOSSES[loss].change(zero, zero, jnp.asarray(y), jnp.zeros(()))
        np.testing.assert_allclose(change, best, 1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("s", [0.0, 1e-6, 0.3, 30.0, 1e4])
def test_the_tempered_softmax_is_its_own_fixed_point(s):
    """p = softmax(u - s p), from scores that leave ones at 1e-300 too."""
    rng = np.random.default_rng(0)
    u = jnp.asarray(100 * rng.normal(size=(50, 6)) + s * rng.dirichlet(np.ones(6), 50))
    p = jax.jit(dual.tempered)(u, jnp.asarray(s))
    np.testing.assert_allclose(p.sum(-1), 1, 0, 1e-14)
    np.testing.assert_allclose(p, jax.nn.softmax(u - s * p, axis=-1), 1e-9, 1e-12 * (1 + s))


# --- the optimum ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ["squared", "hinge", "logistic", "softmax"])
def test_the_gap_closes_and_is_never_negative(loss):
    """Sigma fixed, so that D never falls; below 1e-8 in the end."""
    federation = tasks()
    prior = task_covariance.clustered([0, 0, 0, 1, 1, 1], ridge=0.5)
    if loss == "softmax":
        y = np.digitize(np.asarray(federation.y), [-1.0, 1.0])
        pool = fh.pool(np.asarray(federation.x), y, num_classes=3)
        held = [rows_of(federation, k) for k in range(len(TASKS))]
        federation = fh.from_index_lists(pool, None, held, test=0.0)
        problem = softmax(pool)
    else:
        federation = federation if loss == "squared" else signed(federation)
        problem = linear(pool_of(federation), bias=False)
    solver = fh.local.sgd(0.1, batch_size=4, epochs=10)
    algorithm = mocha(problem, solver, strength=0.1, prior=prior, loss=loss)
    seen = gaps(run(algorithm, federation, 80)[2])
    assert np.all(seen["gap"] >= -1e-13)
    assert seen["gap"][0] > 0.1 and seen["gap"][-1] < 1e-8
    assert np.all(np.diff(seen["dual"]) >= -1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["independent", "mean", "graph"])
def test_squared_loss_ends_at_the_linear_systems_solution(kind):
    federation, ring = tasks(), np.roll(np.eye(6), 1, axis=1)
    prior = {
        "independent": "independent",
        "mean": task_covariance.mean_regularised(6, ridge=0.2),
        "graph": task_covariance.laplacian(ring + ring.T, ridge=0.4),
    }[kind]
    algorithm = plain(federation, prior=prior, strength=0.05)
    _, state, _ = run(algorithm, federation, 400)
    sigma = np.asarray(state.server.relation)
    assert abs(np.trace(sigma) - 1) < 1e-14
    held = [rows_of(federation, k) for k in range(6)]
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    best = loops.ridges(x, y, held, strength=0.05, precision=np.linalg.inv(sigma))
    np.testing.assert_allclose(weights(algorithm, state), best, 0, 1e-9)


@pytest.mark.usefixtures("x64")
def test_tasks_wholly_related_share_one_model_with_half_lambda_times_their_number():
    """Sigma = 11'/N is a ridge of lambda N / 2 on the one model, not of lambda / 2."""
    federation, strength = tasks(), 0.05
    prior = np.ones((6, 6)) / 6 + 1e-7 * np.eye(6)
    algorithm = plain(federation, prior=prior, strength=strength)
    got = weights(algorithm, run(algorithm, federation, 600)[1])
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    matrix, right = strength * 6 * np.eye(x.shape[1]), np.zeros(x.shape[1])
    for k in range(6):
        rows = rows_of(federation, k)
        matrix += x[rows].T @ x[rows] / len(rows)
        right += x[rows].T @ y[rows] / len(rows)
    np.testing.assert_allclose(got, np.tile(np.linalg.solve(matrix, right), (6, 1)), 0, 1e-5)


@pytest.mark.usefixtures("x64")
def test_the_learned_relation_lowers_the_objective_of_both():
    """P at the optimum of W falls with each Sigma-step, by alternating minimisation."""
    federation = tasks()
    algorithm = plain(federation, strength=0.05, inner=60)
    _, state, log = run(algorithm, federation, 240)
    ends = gaps(log)["primal"][[59, 119, 179, 239]]
    assert np.all(np.diff(ends) < 0)
    values = np.linalg.eigvalsh(np.asarray(state.server.relation))
    assert values.min() > 0 and abs(values.sum() - 1) < 1e-14


# --- the covariance's step ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_after_its_step_the_models_and_rho_are_those_of_the_new_relation():
    """Public code leaves both as they were: its models then are not the primal point of the dual variables."""
    federation = tasks()
    algorithm = plain(federation, strength=0.05, inner=4)
    _, before, _ = run(algorithm, federation, 3)
    _, after, _ = run(algorithm, federation, 1, state=before)
    assert np.abs(np.asarray(after.server.relation - before.server.relation)).max() > 0.02
    x, alpha = np.asarray(federation.x), np.asarray(after.clients)[..., 0]
    images = [x[rows_of(federation, k)].T @ alpha[k, : len(rows_of(federation, k))] for k in range(6)]
    images = np.stack([image / len(rows_of(federation, k)) for k, image in enumerate(images)])
    sigma = np.asarray(after.server.relation)
    served = jax.vmap(
        lambda k: algorithm.personalise(after.server, _client(federation, after, k)).params["head"]["kernel"]
    )(jnp.arange(6, dtype=jnp.int32))
    np.testing.assert_allclose(served[..., 0], sigma @ images / 0.05, 1e-12)
    stale = np.asarray(before.server.relation) @ images / 0.05
    assert np.abs(stale - np.asarray(served)[..., 0]).max() > 0.1, "the two must be told apart"
    rho = np.max(np.abs(sigma).sum(axis=1) / np.diag(sigma))
    np.testing.assert_allclose(after.server.safety, rho, 1e-14)
    assert rho > 1.1 and abs(float(before.server.safety) - 1) < 1e-14
    _, _, log = run(algorithm, federation, 40, state=after)
    assert np.all(gaps(log)["gap"] >= -1e-13)


def _client(federation, state, k):
    data = federation.data("train", federation.locate("train", jnp.int32(0), k))
    one = jnp.ones(())
    return fh.Client(k, jax.random.key(0), jnp.int32(0), one, one, state.clients[k], data, data)


# --- who takes part -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_a_dropped_node_stands_still_and_the_dual_never_falls():
    federation = tasks()
    work = [[1, 0, 0.4, 1, 0, 1], [0, 0, 1, 0.1, 1, 0.02]]
    prior = task_covariance.mean_regularised(6, ridge=0.2)
    algorithm = plain(federation, prior=prior)
    first, state, log = run(algorithm, federation, 2, late([list(range(6))] * 2, work))
    assert np.all(np.diff(gaps(log)["dual"]) >= 0)
    assert np.all(np.asarray(state.server.images[1]) == 0) and np.all(np.asarray(state.clients[1]) == 0)
    assert np.abs(np.asarray(state.clients[0] - first.clients[0])).max() > 0
    sizes = np.asarray(federation.train.size[0])
    np.testing.assert_array_equal(np.asarray(log["info"]["steps"]), np.round(np.array(work) * 3 * sizes))


def test_traffic_is_a_model_and_a_number_down_and_a_vector_up():
    federation = tasks(features=7)
    algorithm = plain(federation)
    server, alpha = jax.eval_shape(algorithm.init, jax.random.key(0), federation)
    assert algorithm.traffic(server) == fh.algorithm.Traffic(8 * 4, 7 * 4)
    assert alpha.shape == (6, 20, 1)


# --- bad input ------------------------------------------------------------------------------------------------


def test_what_cannot_be_learned_so_is_refused():
    federation = tasks()
    pool, solver = pool_of(federation), fh.local.sgd(0.1, batch_size=4)
    problem = linear(pool, bias=False)
    facts = dataclasses.replace(problem.facts, convex=False)
    refused = [
        (lambda f: f(mlp(pool, hidden=(3,)), solver), "problem must be linear and convex"),
        (lambda f: f(dataclasses.replace(problem, facts=facts), solver), "problem must be linear and convex"),
        (lambda f: f(problem, solver, strength=0.0), "strength must be > 0"),
        (lambda f: f(problem, solver, strength=-1.0), "strength must be > 0"),
        (lambda f: f(problem, solver, inner=0), "inner must be >= 1"),
        (lambda f: f(problem, solver, floor=0.0), "floor must be > 0"),
    ]
    for factory in (mocha, mocha_primal):
        for call, message in refused:
            with pytest.raises(ValueError, match=message):
                call(factory)
        algorithm = factory(problem, solver)
        server, _ = algorithm.init(jax.random.key(0), federation)
        with pytest.raises(ValueError, match="cannot serve unseen clients: Sigma has no row"):
            fh.adapt(algorithm, server, federation, key=jax.random.key(0))
        with pytest.raises(TypeError, match="problem must come before solver"):
            factory(solver, problem)


def _own_loss(out, y):
    return jnp.abs(out - y)


BAD = {
    "an l2 term": (lambda p, s: mocha(linear(p, l2=0.1), s), "problem must have no l2 term"),
    "a loss of one's own": (
        lambda p, s: mocha(dataclasses.replace(linear(p), losses=_own_loss), s),
        "loss must be named",
    ),
    "an unknown loss": (lambda p, s: mocha(linear(p), s, loss="hinges"), "did you mean 'hinge'"),
    "an unknown prior": (lambda p, s: mocha(linear(p), s, prior="learnt"), "did you mean 'learned'"),
    "a prior that is no covariance": (
        lambda p, s: mocha(linear(p), s, prior=[[1.0, 2.0], [2.0, 1.0]]),
        "prior must be positive definite",
    ),
    "a lopsided prior": (
        lambda p, s: mocha(linear(p), s, prior=[[1.0, 0.5], [0.0, 1.0]]),
        "prior must be a finite symmetric matrix",
    ),
    "a precision without a minimum": (
        lambda p, s: mocha_primal(linear(p), s, precision=[[1.0, 2.0], [2.0, 1.0]]),
        "precision must have no negative eigenvalue",
    ),
    "no ridge": (lambda p, s: task_covariance.mean_regularised(3, ridge=0.0), "ridge must be > 0"),
    "labels that are no labels": (
        lambda p, s: task_covariance.clustered([0.5, 1.0], ridge=1.0),
        "labels must be one whole number",
    ),
    "ties that repel": (
        lambda p, s: task_covariance.laplacian([[0.0, -1.0], [-1.0, 0.0]], ridge=1.0),
        "adjacency must be >= 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call(pool_of(tasks()), fh.local.sgd(0.1, batch_size=4))


def test_federations_that_do_not_fit_are_refused():
    federation = tasks()
    problem, solver = linear(pool_of(federation)), fh.local.sgd(0.1, batch_size=4)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="targets must be -1 or 1"):
        mocha(problem, solver, loss="hinge").init(key, federation)
    with pytest.raises(ValueError, match="prior must have a row for each of the 6 clients"):
        mocha(problem, solver, prior=np.eye(4)).init(key, federation)
    moving = dataclasses.replace(federation, spec=dataclasses.replace(federation.spec, phases=2))
    with pytest.raises(ValueError, match="federation must have one phase"):
        mocha(problem, solver).init(key, moving)
    setting = Setting(False)
    with pytest.raises(ValueError, match="loss 'hinge' must have one number a row"):
        mocha(setting.problem, solver, loss="hinge").init(key, setting.federation)
    with pytest.raises(TypeError, match="loss must be a name"):
        mocha(problem, solver, loss=_own_loss)
