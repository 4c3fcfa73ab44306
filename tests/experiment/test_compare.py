"""compare: the same start, cohorts and batches for every method, and honest columns."""

import hashlib

import jax
import numpy as np
import pytest

import fedjax_het as fh
import fedjax_het.local.solver as solver_module
from fedjax_het.experiment import Config, build, compare, study_of
from fedjax_het.experiment.choices import CENTRALISED
from fedjax_het.experiment.config import COMPARED

ROUNDS, COHORT = 2, 3
CHANGES = ["clients.clients=6", "clients.alpha=0.3", "sampling.size=3", "rounds=2", "every=1", "seeds=[0, 1]"]


@pytest.fixture(scope="module")
def study():
    return build(Config.load(None, CHANGES), COMPARED)


@pytest.fixture(scope="module")
def result(study):
    return compare(study)


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_every_method_has_a_line_in_order(result):
    assert tuple(line.name for line in result.lines) == COMPARED
    assert "untuned" in result.protocol


def test_every_federated_method_sees_the_same_cohorts(result):
    cohorts = {_digest(line.history["cohort"]) for line in result.lines if line.name != CENTRALISED}
    assert len(cohorts) == 1
    first, second = result.lines[0].history["cohort"]
    assert not np.array_equal(first, second), "seeds draw their own cohorts"


def test_every_method_starts_from_the_same_weights(study):
    key = jax.random.key(0)
    federation, problem, solver = study.federation, study.problem, study.solver
    round_fn = fh.make_round(fh.sampling.uniform(COHORT), fh.executors.auto())
    digests = set()
    for name in COMPARED[:-1]:
        algorithm = fh.algorithms.make(name, problem, solver)
        state = fh.initial_state(algorithm, federation, key=key, round_fn=round_fn)
        leaves = jax.tree.leaves((state.server, state.clients))
        # every method's state holds the weights somewhere, per leaf shape, perhaps stacked over clients
        params = problem.init(fh.keys.stream(fh.keys.stream(key, "init"), "params")).params
        for leaf in jax.tree.leaves(params):
            stacked = [x.reshape(-1, *leaf.shape)[0] for x in leaves if x.shape[-leaf.ndim :] == leaf.shape]
            assert any(np.array_equal(x, leaf) for x in stacked), name
        digests.add(_digest(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])))
    assert len(digests) == 1


def test_every_method_visits_the_same_batches(study, monkeypatch):
    """Record the row numbers of every batch of every client, method by method."""
    seen = {}
    fold = solver_module.fold

    def recording(step, carry, key, data, plan, *, work=1.0):
        def record(carry, batch, step_key, j):
            rows = data.index[data.offset + batch.position]
            jax.debug.callback(lambda *args: log.append(tuple(np.asarray(a).tolist() for a in args)), j, rows)
            return step(carry, batch, step_key, j)

        return fold(record, carry, key, data, plan, work=work)

    monkeypatch.setattr(solver_module, "fold", recording)
    for name in COMPARED[:-1]:
        log = []
        algorithm = fh.algorithms.make(name, study.problem, study.solver)
        round_fn = fh.make_round(fh.sampling.uniform(COHORT), fh.executors.looped())
        state = fh.initial_state(algorithm, study.federation, key=jax.random.key(0), round_fn=round_fn)
        state, _ = jax.jit(round_fn.__call__)(algorithm, state, study.federation)
        jax.block_until_ready(state.round)
        jax.effects_barrier()
        assert log
        seen[name] = hashlib.sha256(repr(sorted(map(repr, log))).encode()).hexdigest()
    assert len(set(seen.values())) == 1, seen


def test_centralised_takes_as_many_gradient_steps_as_fedavg(result):
    lines = {line.name: line for line in result.lines}
    fedavg, centralised = lines["fedavg"].steps, lines[CENTRALISED].steps
    assert (abs(fedavg - centralised) <= ROUNDS).all(), (fedavg, centralised)


def test_methods_without_a_global_model_show_none(result):
    has = {line.name: line.union is not None for line in result.lines}
    assert has == {
        "fedavg": True,
        "fedprox": True,
        "scaffold": True,
        "ifca": False,
        "fedper": False,
        "local_only": False,
        CENTRALISED: True,
    }


def test_client_accuracy_is_the_class_reweighted_one(study, result):
    """Recomputed for FedAvg from its own state: sum over classes of p_k(y) accuracy(y)."""
    federation = study.federation
    algorithm = fh.algorithms.fedavg(study.problem, study.solver)
    state, _ = fh.simulate(
        algorithm, federation, key=jax.random.key(1), rounds=ROUNDS, sampler=fh.sampling.uniform(COHORT)
    )
    rows = np.asarray(federation.test.index)
    x, y = np.asarray(federation.x)[rows], np.asarray(federation.y)[rows]
    predicted = np.asarray(algorithm.predict(algorithm.consensus(state.server), x)).argmax(-1)
    by_class = np.array([(predicted[y == c] == c).mean() for c in range(10)])
    expected = np.asarray(federation.truth["held"]) @ by_class
    line = next(line for line in result.lines if line.name == "fedavg")
    np.testing.assert_allclose(line.clients[1], expected, atol=1e-6)
    np.testing.assert_allclose(line.mean[1], expected.mean(), atol=1e-6)
    np.testing.assert_allclose(line.worst("accuracy")[1], expected.min(), atol=1e-6)
    np.testing.assert_allclose(line.union[1], (predicted == y).mean(), atol=1e-6)


def test_traffic_is_present_clients_times_the_papers_bytes(study, result):
    d = sum(leaf.size * 4 for leaf in jax.tree.leaves(study.problem.init(jax.random.key(0)).params))
    lines = {line.name: line for line in result.lines}
    assert (lines["fedavg"].bytes_up == d * ROUNDS * COHORT).all()
    assert (lines["scaffold"].bytes_down == 2 * d * ROUNDS * COHORT).all()
    assert (lines["ifca"].bytes_down == 2 * d * ROUNDS * COHORT).all()
    assert (lines["local_only"].bytes_up == 0).all()
    assert (lines[CENTRALISED].bytes_up == 0).all(), "pooled data send no models"


def test_labels_alone_are_judged_on_the_common_rows(study, result):
    assert result.metric == "accuracy" and "reweighted" in result.about_clients


@pytest.mark.parametrize(
    ("methods", "numbers", "message"),
    [
        (["fedavgg"], {}, "did you mean 'fedavg'"),
        (["fedavg"], {"rounds": 0}, "rounds must be >= 1, got 0"),
        (["fedavg"], {"seeds": 0}, "seeds must be >= 1, got 0"),
        (["fedavg"], {"cohort": 7}, "got 7 of 6"),
    ],
)
def test_bad_input_is_named(study, methods, numbers, message):
    parts = {"federation": study.federation, "problem": study.problem, "solver": study.solver}
    with pytest.raises(ValueError, match=message):
        study_of(methods, **parts, **{"rounds": 1, "seeds": 1, "cohort": 2, **numbers})


def regression():
    """Four clients with slopes of their own, no labels; validation rows, too."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    slope = np.repeat([-1.0, 1.0, 2.0, 3.0], 20)
    pool = fh.pool(x, slope * x[:, 0] + 0.1 * rng.normal(size=80), task="regression", name="slopes")
    federation = fh.from_index_lists(pool, None, np.split(np.arange(80), 4), test=0.25, valid=0.2)
    return federation, fh.models.linear(pool)


def test_parts_made_in_python_and_a_task_without_labels():
    federation, problem = regression()
    solver = fh.local.sgd(0.1, batch_size=8)
    methods = ["fedavg", "local_only", CENTRALISED]
    study = study_of(
        methods, federation=federation, problem=problem, solver=solver, rounds=20, cohort=4, seeds=2
    )
    result = compare(study)
    assert result.metric == "rmse" and result.about_clients == "on the client's own test rows"
    lines = {line.name: line for line in result.lines}
    assert lines["local_only"].union is None and lines["fedavg"].union.shape == (2,)
    assert all(line.clients.shape == (2, 4) for line in result.lines)
    assert (lines["local_only"].mean < 0.5 * lines["fedavg"].mean).all(), "own slopes beat a common one"
    worst = lines["fedavg"].worst(result.metric)
    np.testing.assert_array_equal(worst, lines["fedavg"].clients.max(axis=1), "large is bad")
    final = lines["fedavg"].history.final("global/rmse")
    assert final.best is not None and (final.best_at <= 20).all()


def test_centralised_training_is_judged_on_each_clients_rows():
    federation, problem = regression()
    parts = {"federation": federation, "problem": problem, "solver": fh.local.sgd(0.1, batch_size=8)}
    line = compare(study_of([CENTRALISED], **parts, rounds=10, cohort=4, seeds=1)).lines[0]
    assert line.clients.shape == (1, 4)
    sizes = np.asarray(federation.test.size[0])
    union = np.sqrt(np.sum(sizes * line.clients[0] ** 2) / sizes.sum())
    np.testing.assert_allclose(union, line.union[0], rtol=1e-5)


def test_differences_need_five_seeds(result):
    assert not result.enough_seeds
    with pytest.raises(ValueError, match="at least 5 seeds, got 2"):
        result.differences()
