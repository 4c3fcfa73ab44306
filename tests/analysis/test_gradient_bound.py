"""Li's G^2 on the trajectory: against loops of NumPy on recorded batches, and over a run of quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import setting
from reference.models import Softmax

import fedjax_het as fh
from fedjax_het import analysis
from fedjax_het.analysis import oracles
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation

MOST = 2 * -(-max(setting.SIZES) // setting.BATCH)


def squared(gradient):
    return sum(float((value**2).sum()) for value in gradient.values())


def by_hand(bench, start, k, round_):
    """The largest (|grad F_k|^2 + sigma_k^2, |grad F_k|^2, sigma_k^2) before the steps of client k."""
    point, rows, seen = {name: value.copy() for name, value in start.items()}, bench.held[k], []
    batches = bench.batches[round_][k]
    smallest = min(len(batch) for batch in batches)
    for batch in batches:
        whole = Softmax.gradient(point, bench.x[rows], bench.y[rows])
        apart = 0.0
        for i in rows:
            own = Softmax.gradient(point, bench.x[[i]], bench.y[[i]])
            apart += squared({name: own[name] - whole[name] for name in own}) / len(rows)
        left = (len(rows) - smallest) / (len(rows) - 1) if len(rows) > 1 else 0.0
        seen.append((squared(whole), apart / smallest * left))
        step = Softmax.gradient(point, bench.x[batch], bench.y[batch])
        point = {name: point[name] - setting.RATE * step[name] for name in point}
    seen = np.array(seen)
    return np.array([seen.sum(axis=1).max(), seen[:, 0].max(), seen[:, 1].max()])


@pytest.mark.parametrize("x64", [True, False])
def test_in_rounds_of_minibatches(x64):
    """Ragged clients, an empty one, short last batches, three rounds."""
    with jax.enable_x64(x64):
        bench = setting.Setting(x64)
        solver = bench.solver()
        algorithm = fh.algorithms.fedavg(bench.problem, solver)
        measures = {"bound": analysis.local_gradients(solver, MOST)}
        round_fn = fh.make_round(fh.sampling.scripted(setting.COHORTS), fh.executors.vmapped(), measures)
        state = initial_state(algorithm, bench.federation, key=bench.key, round_fn=round_fn)
        state = setting.server_start(setting.softmax_start())(state)
        run = jax.jit(round_fn)
        for round_, cohort in enumerate(setting.COHORTS):
            start = setting.to_numpy(state.server.params["head"])
            state, log = run(algorithm, state, bench.federation)
            got = log["measures"]["bound"]
            expected = np.full((5, 3), np.nan)
            for i, k in enumerate(cohort):
                if setting.SIZES[k]:
                    expected[i] = by_hand(bench, start, k, round_)
            names = ("by_client", "gradient_squared", "sigma_sq")
            bench.same({name: got[name] for name in names}, dict(zip(names, expected.T)))
            bench.same({"G": got["li_G_sq"]}, {"G": np.nanmax(expected[:, 0])})
            assert (np.nan_to_num(expected[:, 2]) > 0).any()


def test_over_a_run_all_clients_are_asked_by_a_survey_beside_the_round():
    """One program of rounds and surveys; clients that no round draws have the largest gradients."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        A = np.stack([np.diag(rng.uniform(0.3, 2.0, 2)) for _ in range(4)])
        centres = rng.normal(size=(4, 2))
        centres[3] = 30.0
        federation = quadratic_federation(A, centres)
        problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
        solver = fh.local.sgd(0.1, batch_size=None, steps=4)
        algorithm = fh.algorithms.fedavg(problem, solver)
        measure = analysis.local_gradients(solver, 4)
        round_fn = fh.make_round(fh.sampling.fixed([0, 1, 2]), fh.executors.vmapped(), {"in": measure})
        state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)

        @jax.jit
        def run(state):
            def one(state, _):
                asked = fh.survey(measure, algorithm, state, federation)
                after, log = round_fn(algorithm, state, federation)
                return after, (asked, log["measures"]["in"], state.server.params["w"])

            return jax.lax.scan(one, state, length=5)[1]

        asked, inside, points = run(state)
        functions = oracles.quadratics_of(federation)
        expected = []
        for w in np.asarray(points):
            path = np.asarray(analysis.quadratic_path(functions, w, learning_rate=0.1, steps=4)) + w
            slopes = np.einsum("nij,nsj->nsi", A, path) - np.asarray(functions.b)[:, None]
            expected.append((slopes[:, :4] ** 2).sum(axis=2).max(axis=1))
        np.testing.assert_allclose(asked["by_client"], expected, rtol=1e-9)
        np.testing.assert_allclose(asked["li_G_sq"], np.max(expected, axis=1), rtol=1e-9)
        np.testing.assert_allclose(inside["li_G_sq"], np.max(np.array(expected)[:, :3], axis=1), rtol=1e-9)
        assert (np.asarray(asked["li_G_sq"]) > 10 * np.asarray(inside["li_G_sq"])).all()
        np.testing.assert_array_equal(asked["sigma_sq"], 0)
        constants = analysis.constants.given(li_G_sq=jnp.max(asked["li_G_sq"]), provenance="trajectory_max")
        assert float(constants.li_G_sq.value) == pytest.approx(np.max(expected))


def test_it_is_no_measure_of_heterogeneity():
    """Clients that are all alike have a G^2, and no dissimilarity."""
    federation = quadratic_federation(np.tile(np.eye(2), (3, 1, 1)), np.ones((3, 2)))
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    solver = fh.local.sgd(0.1, batch_size=None, steps=3)
    algorithm = fh.algorithms.fedavg(problem, solver)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    survey = jax.jit(fh.survey)
    bound = survey(analysis.local_gradients(solver, 3), algorithm, state, federation)
    assert float(bound["li_G_sq"]) == pytest.approx(2)
    apart = survey(analysis.gradient_dissimilarity(), algorithm, state, federation)
    assert float(apart["G2"]) == pytest.approx(0, abs=1e-6)
    given = analysis.local_gradients(solver, 3, variance=lambda problem, model, data: jnp.asarray(5.0))
    assert float(survey(given, algorithm, state, federation)["li_G_sq"]) == pytest.approx(7)
    short = survey(analysis.local_gradients(solver, 2), algorithm, state, federation)
    assert np.isnan(short["by_client"]).all(), "more steps than room"


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda s: analysis.local_gradients(0.1, 3), TypeError, "solver must be a Solver"),
        (lambda s: analysis.local_gradients(s, 0), ValueError, "room must be >= 1"),
        (lambda s: analysis.local_gradients(s, 3, variance=2.0), TypeError, "variance must be callable"),
    ],
)
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call(fh.local.sgd(0.1, batch_size=None))
