"""Client drift: in a round against NumPy, step by step against the algorithm's own path and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import setting
from reference.models import TanhNetwork

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation

MOST = 2 * -(-max(setting.SIZES) // setting.BATCH)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@functools.cache
def prepared():
    """The setting in double precision."""
    return setting.Setting(x64=True)


def measured(algorithm, federation, measures, cohorts, rounds=None):
    """(states before each round, their logs)."""
    round_fn = fh.make_round(fh.sampling.scripted(cohorts), fh.executors.vmapped(), measures)
    state = initial_state(algorithm, federation, key=jax.random.key(11), round_fn=round_fn)
    run = jax.jit(round_fn)
    states, logs = [state], []
    for _ in range(len(cohorts) if rounds is None else rounds):
        state, log = run(algorithm, states[-1], federation)
        states.append(state)
        logs.append(log["measures"])
    return states, logs


def walked(model, start, batches, x, y):
    """Every point of local SGD, by name [E + 1, ...], from recorded batches."""
    points = [{name: value.copy() for name, value in start.items()}]
    for rows in batches:
        slope = model.gradient(points[-1], x[rows], y[rows])
        points.append({name: points[-1][name] - setting.RATE * slope[name] for name in start})
    return points


def flat(point):
    return np.concatenate([point[name].ravel() for name in sorted(point)])


def by_hand(bench, state, cohort, round_):
    """(paths [C, E + 1, d] held at their ends, steps, weights) of the cohort's clients with rows."""
    start = setting.flat_network(state.server.params)
    paths, steps, weights = [], [], []
    for k in cohort:
        if not setting.SIZES[k]:
            continue
        points = walked(TanhNetwork, start, bench.batches[round_][k], bench.x, bench.y)
        path = np.array([flat(point) for point in points])
        steps.append(len(path) - 1)
        paths.append(np.concatenate([path, np.repeat(path[-1:], MOST + 1 - len(path), axis=0)]))
        weights.append(setting.SIZES[k])
    return np.array(paths), np.array(steps), np.array(weights) / np.sum(weights)


def test_against_loops_of_numpy_over_three_rounds():
    """A network on ragged clients, one of them empty, five of nine a round; both measures and every value."""
    bench = prepared()
    solver = bench.solver()
    algorithm = fh.algorithms.fedavg(bench.network, solver)
    measures = {
        "drift": fh.analysis.client_drift(),
        "layers": fh.analysis.layer_drift(),
        "path": fh.analysis.local_path(solver, MOST, spread=True),
    }
    states, logs = measured(algorithm, bench.federation, measures, setting.COHORTS)
    for round_, (cohort, log) in enumerate(zip(setting.COHORTS, logs)):
        paths, steps, p = by_hand(bench, states[round_], cohort, round_)
        held = np.array([setting.SIZES[k] > 0 for k in cohort])
        moved = paths - paths[:, :1]
        far = np.sqrt((moved**2).sum(axis=2))
        mean = np.tensordot(p, paths, 1)
        bench.same(
            {name: log["drift"][name] for name in ("drift", "drift_squared")},
            {"drift": p @ far[:, -1], "drift_squared": p @ far[:, -1] ** 2},
        )
        np.testing.assert_allclose(log["drift"]["by_client"][held], far[:, -1], rtol=1e-9)
        assert np.isnan(log["drift"]["by_client"][~held]).all()
        np.testing.assert_allclose(
            sum(value**2 for value in log["layers"].values()), log["drift"]["drift_squared"], rtol=1e-9
        )
        assert sorted(log["layers"]) == ["dense_0/bias", "dense_0/kernel", "head/bias", "head/kernel"]
        path = log["path"]
        np.testing.assert_allclose(path["by_client"][held], far, rtol=1e-9, atol=1e-12)
        assert np.isnan(path["by_client"][~held]).all()
        np.testing.assert_array_equal(path["steps"][held], steps)
        own = [np.mean(far[i, 1 : steps[i] + 1] ** 2) for i in range(len(p))]
        bench.same(
            {name: path[name] for name in ("squared", "local_drift", "drift", "spread")},
            {
                "squared": p @ far**2,
                "local_drift": p @ np.array(own),
                "drift": p @ far[:, -1],
                "spread": p @ ((paths - mean) ** 2).sum(axis=2),
            },
        )
        np.testing.assert_array_equal(path["by_client"][:, -1], log["drift"]["by_client"])
        np.testing.assert_allclose(path["drift"], log["drift"]["drift"], rtol=1e-12)
    layer = logs[0]["layers"]["head/bias"]
    paths, _, p = by_hand(bench, states[0], setting.COHORTS[0], 0)
    last = (paths[:, -1] - paths[:, 0])[:, -setting.CLASSES - setting.WIDTH * setting.CLASSES :]
    np.testing.assert_allclose(layer, np.sqrt(p @ (last[:, : setting.CLASSES] ** 2).sum(axis=1)), rtol=1e-9)


@pytest.mark.parametrize("name", ["fedprox", "fednova"])
def test_the_path_ends_where_the_algorithms_own_does_bit_for_bit(name):
    """The steps of the walk are the steps of local work; FedAvg's are compared above."""
    bench = prepared()
    solver = bench.solver()
    algorithm = getattr(fh.algorithms, name)(bench.problem, solver)
    measures = {"end": fh.analysis.client_drift(), "path": fh.analysis.local_path(solver, MOST)}
    _, logs = measured(algorithm, bench.federation, measures, setting.COHORTS[:2])
    for log in logs:
        np.testing.assert_array_equal(log["path"]["by_client"][:, -1], log["end"]["by_client"])


def test_plain_steps_of_a_method_with_another_objective():
    """SCAFFOLD names no objective; with plain=True its clients are walked as FedAvg's would be."""
    bench = prepared()
    solver = bench.solver()
    scaffold = fh.algorithms.scaffold(bench.problem, solver)
    with pytest.raises(TypeError, match=r"got Scaffold: pass plain=True to walk on F_k itself"):
        measured(scaffold, bench.federation, {"path": fh.analysis.local_path(solver, MOST)}, [[0, 2]])
    plain = {"path": fh.analysis.local_path(solver, MOST, plain=True)}
    _, (got,) = measured(scaffold, bench.federation, plain, [[0, 2]])
    _, (expected,) = measured(fh.algorithms.fedavg(bench.problem, solver), bench.federation, plain, [[0, 2]])
    np.testing.assert_array_equal(got["path"]["by_client"], expected["path"]["by_client"])


def four(start=None):
    """(functions, federation, problem): curvatures that differ."""
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(4, 3, 3)))[0]
    A = np.einsum("nij,nj,nkj->nik", turn, rng.uniform(0.2, 2.0, (4, 3)), turn)
    federation = quadratic_federation(A, rng.normal(size=(4, 3)), sizes=[1, 3, 2, 2])
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool), start=start)
    return oracles.quadratics_of(federation), federation, problem


def surveyed(problem, federation, rate, steps):
    """`local_path` of all clients by a survey, from the start."""
    solver = fh.local.sgd(rate, batch_size=None, steps=steps)
    algorithm = fh.algorithms.fedavg(problem, solver)
    state = initial_state(
        algorithm,
        federation,
        key=jax.random.key(0),
        round_fn=fh.make_round(fh.sampling.everyone(), fh.executors.vmapped()),
    )
    measure = fh.analysis.local_path(solver, steps, spread=True)
    return jax.jit(fh.survey)(measure, algorithm, state, federation)


def test_a_survey_follows_the_closed_form_and_saturates():
    functions, federation, problem = four(start=(1.0, -2.0, 0.5))
    steps = 400
    path = fh.analysis.quadratic_path(functions, [1.0, -2.0, 0.5], learning_rate=0.05, steps=steps)
    got = surveyed(problem, federation, 0.05, steps)
    path = np.asarray(path)
    distance = np.linalg.norm(path, axis=2)
    np.testing.assert_allclose(got["by_client"], distance, rtol=1e-9, atol=1e-12)
    p = np.asarray(functions.p)
    mean = np.tensordot(p, path, 1)
    np.testing.assert_allclose(got["spread"], p @ ((path - mean) ** 2).sum(axis=2), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["local_drift"], p @ (distance[:, 1:] ** 2).mean(axis=1), rtol=1e-9)
    minima = np.linalg.solve(functions.A, functions.b[..., None])[..., 0]
    away = np.linalg.norm(np.array([1.0, -2.0, 0.5]) - minima, axis=1)
    np.testing.assert_allclose(distance[:, -1], away, rtol=2e-2)
    slopes = np.asarray(fh.analysis.drift_exponent(distance))
    assert (slopes < 0.8).all(), "saturated"
    fine = fh.analysis.quadratic_path(functions, [1.0, -2.0, 0.5], learning_rate=1e-3, steps=4)
    early = np.asarray(fh.analysis.drift_exponent(np.linalg.norm(fine, axis=2)))
    assert (early > 0.99).all() and (early < 1).all(), "linear while eta j L is small"
    first = 0.05 * np.linalg.norm(functions.gradients(jnp.asarray([1.0, -2.0, 0.5])), axis=1)
    np.testing.assert_allclose(distance[:, 1], first, rtol=1e-9)


def test_at_the_optimum_drift_follows_zeta():
    """sum p d(j)^2 = (eta j)^2 zeta_*^2 + O(eta^3): the remainder over (eta j)^2 falls with eta."""
    functions, _, _ = four()
    best = functions.optimum
    zeta = float(functions.p @ (functions.gradients(best) ** 2).sum(axis=1))
    j = np.arange(1, 7)

    def off(rate):
        path = fh.analysis.quadratic_path(functions, best, learning_rate=rate, steps=6)
        squared = functions.p @ (path**2).sum(axis=2)
        return np.asarray(squared)[1:] / (rate * j) ** 2 / zeta - 1

    coarse, fine = off(0.02), off(0.01)
    assert (np.abs(coarse[1:]) > 1e-4).all() and abs(coarse[0]) < 1e-9, "the first step is exact"
    np.testing.assert_allclose(coarse[1:] / fine[1:], 2, rtol=0.1)


def test_growth_with_the_steps_is_the_same_walk():
    """A run of fewer steps is the beginning of a longer one."""
    _, federation, problem = four(start=(1.0, -2.0, 0.5))
    long, short = (surveyed(problem, federation, 0.05, steps)["by_client"] for steps in (12, 5))
    np.testing.assert_allclose(long[:, :6], short, rtol=1e-12, atol=1e-14)


def test_drift_may_grow_in_a_round_and_fall_over_rounds():
    """The ratio between rounds, which shrinks as training converges, says nothing of the local steps."""
    functions, federation, problem = four(start=(9.0, -9.0, 9.0))
    growth = {}
    for steps in (1, 8):
        algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.05, batch_size=None, steps=steps))
        _, logs = measured(algorithm, federation, {"drift": fh.analysis.client_drift()}, [[0, 1, 2, 3]] * 6)
        drift = jnp.stack([log["drift"]["drift"] for log in logs])
        growth[steps] = np.asarray(fh.analysis.drift_growth(drift))
        np.testing.assert_allclose(growth[steps], np.asarray(drift[1:] / drift[:-1]), rtol=1e-12)
        assert (growth[steps] < 1).all()
    path = fh.analysis.quadratic_path(functions, [9.0, -9.0, 9.0], learning_rate=0.05, steps=8)
    assert (np.diff(np.linalg.norm(path, axis=2), axis=1) > 0).all()


def test_the_exponent():
    j = np.arange(0.0, 9)
    lines = np.stack([3 * j, 0.5 * np.sqrt(j), np.where(j < 5, 2 * j, 8.0), 0 * j, np.where(j == 2, np.nan, j)])
    got = fh.analysis.drift_exponent(lines, [8, 8, 4, 8, 8])
    np.testing.assert_allclose(got, [1, 0.5, 1, np.nan, np.nan], rtol=1e-12)
    assert float(fh.analysis.drift_exponent(lines[2])) < 0.9, "the held end would bend the line"
    assert np.isnan(fh.analysis.drift_exponent(lines[0], 1))
    assert np.isnan(np.asarray(fh.analysis.drift_growth([1.0, 0.0, 2.0, 1.0]))).tolist() == [False, True, False]


def test_a_walk_longer_than_its_room_is_nan():
    bench = prepared()
    solver = bench.solver()
    algorithm = fh.algorithms.fedavg(bench.problem, solver)
    path = {"path": fh.analysis.local_path(solver, 4)}
    _, (log,) = measured(algorithm, bench.federation, path, [[0, 1, 2]])
    steps = np.asarray(log["path"]["steps"])
    assert sorted(steps.tolist()) == [2, 4, 6]
    np.testing.assert_array_equal(np.isnan(log["path"]["by_client"]).all(axis=1), steps > 4)
    assert np.isnan(log["path"]["drift"])


def test_spread_keeps_its_digits_near_iid_data_in_single_precision():
    """Clients move by about 4096 and differ by a few units, in every round from the first on."""
    with jax.enable_x64(False):
        apart = np.array([-2.0, -1, 0, 1, 3, -1])[:, None] * [[1.0, -1.0]]
        slopes = 4096.0 + apart
        federation = quadratic_federation(np.zeros((6, 2, 2)), b=slopes)
        problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
        solver = fh.local.sgd(1.0, batch_size=None, steps=1)
        algorithm = fh.algorithms.fedavg(problem, solver)
        measures = {"path": fh.analysis.local_path(solver, 1, spread=True)}
        cohorts = [[0, 1, 3], [0, 2, 4], [1, 4, 5]]
        _, logs = measured(algorithm, federation, measures, cohorts)
        for number, (log, cohort) in enumerate(zip(logs, cohorts)):
            expected = ((slopes[cohort] - slopes[cohort].mean(axis=0)) ** 2).sum(axis=1).mean()
            assert log["path"]["spread"].dtype == jnp.float32
            # from the second round on the models' own rounding, 5e-4 at 4096 and more, is left
            np.testing.assert_allclose(log["path"]["spread"][1], expected, rtol=1e-3 if number else 1e-6)


def test_a_survey_where_nobody_works_is_refused():
    bench = prepared()
    algorithm = fh.algorithms.fedavg(bench.problem, bench.solver())
    states, _ = measured(algorithm, bench.federation, {}, [[0, 2]], rounds=0)
    for measure in (fh.analysis.client_drift(), fh.analysis.layer_drift()):
        with pytest.raises(TypeError, match="in a survey, use local_path"):
            fh.survey(measure, algorithm, states[0], bench.federation)


def test_a_clients_own_model_where_there_is_no_other():
    """Local work of personal models begins at each client's own."""
    bench = prepared()
    algorithm = fh.algorithms.local_only(bench.problem, bench.solver())
    states, logs = measured(algorithm, bench.federation, {"drift": fh.analysis.client_drift()}, [[0, 2]] * 2)
    for before, after, log in zip(states, states[1:], logs):
        moved = jax.tree.map(
            lambda a, b: (a - b)[jnp.array([0, 2])], after.clients.params, before.clients.params
        )
        squared = sum((np.asarray(leaf).reshape(2, -1) ** 2).sum(axis=1) for leaf in jax.tree.leaves(moved))
        np.testing.assert_allclose(log["drift"]["by_client"], np.sqrt(squared), rtol=1e-9)


def test_nobody_drifts_in_an_empty_cohort():
    bench = prepared()
    solver = bench.solver()
    algorithm = fh.algorithms.fedavg(bench.problem, solver)
    measures = {"drift": fh.analysis.client_drift(), "path": fh.analysis.local_path(solver, 3, spread=True)}
    _, (log,) = measured(algorithm, bench.federation, measures, [[4]])
    assert np.isnan(log["drift"]["drift"]) and np.isnan(log["path"]["spread"]).all()


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda solver: fh.analysis.local_path(3, 4), TypeError, "solver must be a Solver, got 3"),
        (lambda solver: fh.analysis.local_path(solver, 0), ValueError, "room must be >= 1, got 0"),
        (lambda solver: fh.analysis.drift_exponent([0.0, 1.0]), ValueError, "with E >= 2"),
        (lambda solver: fh.analysis.drift_growth([1.0]), ValueError, "with T >= 2"),
    ],
)
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call(fh.local.sgd(0.1, batch_size=None))


def test_a_path_needs_a_whole_start():
    functions, _, _ = four()
    with pytest.raises(ValueError, match=r"w must have shape \[3\]"):
        fh.analysis.quadratic_path(functions, [1.0], learning_rate=0.1, steps=2)
    with pytest.raises(ValueError, match="steps must be >= 1"):
        fh.analysis.quadratic_path(functions, [1.0, 2, 3], learning_rate=0.1, steps=0)
