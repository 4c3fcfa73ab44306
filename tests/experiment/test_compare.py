"""compare: the same start, cohorts and batches for every method, and honest columns."""

import hashlib

import jax
import numpy as np
import pytest

import fedjax_het as fh
import fedjax_het.local.solver as solver_module
from fedjax_het.experiment import METHODS, compare
from fedjax_het.experiment.comparison import CENTRALISED, digits_study
from fedjax_het.metrics.fairness import worst_decile

ROUNDS, COHORT = 2, 3


@pytest.fixture(scope="module")
def study():
    federation, problem, solver = digits_study(clients=6, alpha=0.3)
    return {"federation": federation, "problem": problem, "solver": solver}


@pytest.fixture(scope="module")
def result(study):
    return compare(METHODS, **study, rounds=ROUNDS, cohort=COHORT, seeds=2)


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_every_method_has_a_line_in_order(result):
    assert tuple(line.name for line in result.lines) == METHODS
    assert "untuned" in result.protocol


def test_every_federated_method_sees_the_same_cohorts(result):
    cohorts = {_digest(line.history["cohort"]) for line in result.lines if line.name != CENTRALISED}
    assert len(cohorts) == 1
    first, second = result.lines[0].history["cohort"]
    assert not np.array_equal(first, second), "seeds draw their own cohorts"


def test_every_method_starts_from_the_same_weights(study):
    key = jax.random.key(0)
    federation, problem, solver = study["federation"], study["problem"], study["solver"]
    round_fn = fh.make_round(fh.sampling.uniform(COHORT), fh.executors.auto())
    digests = set()
    for name in METHODS[:-1]:
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
    for name in METHODS[:-1]:
        log = []
        algorithm = fh.algorithms.make(name, study["problem"], study["solver"])
        round_fn = fh.make_round(fh.sampling.uniform(COHORT), fh.executors.looped())
        state = fh.initial_state(algorithm, study["federation"], key=jax.random.key(0), round_fn=round_fn)
        state, _ = jax.jit(round_fn.__call__)(algorithm, state, study["federation"])
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
    has = {line.name: line.global_accuracy is not None for line in result.lines}
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
    federation = study["federation"]
    algorithm = fh.algorithms.fedavg(study["problem"], study["solver"])
    state, _ = fh.simulate(
        algorithm, federation, key=jax.random.key(1), rounds=ROUNDS, sampler=fh.sampling.uniform(COHORT)
    )
    rows = np.asarray(federation.test.index)
    x, y = np.asarray(federation.x)[rows], np.asarray(federation.y)[rows]
    predicted = np.asarray(algorithm.predict(algorithm.consensus(state.server), x)).argmax(-1)
    by_class = np.array([(predicted[y == c] == c).mean() for c in range(10)])
    expected = np.asarray(federation.truth["proportions"]) @ by_class
    line = next(line for line in result.lines if line.name == "fedavg")
    np.testing.assert_allclose(line.client_accuracy[1], expected, atol=1e-6)
    np.testing.assert_allclose(line.mean[1], expected.mean(), atol=1e-6)
    np.testing.assert_allclose(line.worst[1], expected.min(), atol=1e-6)
    np.testing.assert_allclose(line.global_accuracy[1], (predicted == y).mean(), atol=1e-6)


def test_traffic_is_present_clients_times_the_papers_bytes(study, result):
    d = sum(leaf.size * 4 for leaf in jax.tree.leaves(study["problem"].init(jax.random.key(0)).params))
    lines = {line.name: line for line in result.lines}
    assert (lines["fedavg"].bytes_up == d * ROUNDS * COHORT).all()
    assert (lines["scaffold"].bytes_down == 2 * d * ROUNDS * COHORT).all()
    assert (lines["ifca"].bytes_down == 2 * d * ROUNDS * COHORT).all()
    assert (lines["local_only"].bytes_up == 0).all()
    assert (lines[CENTRALISED].bytes_up == 0).all(), "pooled data send no models"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["fedavgg"]}, "did you mean 'fedavg'"),
        ({"rounds": 0}, "rounds must be >= 1, got 0"),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
        ({"cohort": 7}, "got 7 of 6"),
    ],
)
def test_bad_input_is_named(study, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"methods": ["fedavg"], **study, "rounds": 1, "seeds": 1, **arguments})


def test_a_federation_without_proportions_is_refused(study):
    federation = fh.heterogeneity.iid.iid(fh.datasets.digits(), clients=4)
    bare = fh.from_index_lists(federation.x, np.asarray(federation.y), [np.arange(10), np.arange(10, 20)])
    with pytest.raises(ValueError, match="proportions"):
        compare(["fedavg"], federation=bare, problem=study["problem"], solver=study["solver"])


def test_worst_decile_is_the_mean_of_the_worst_tenth_rounded_up():
    values = np.arange(25.0)
    assert worst_decile(values, np.ones(25, bool)) == np.mean([0, 1, 2])
    assert worst_decile(values, values > 5) == np.mean([6, 7])
    assert np.isnan(worst_decile(values, np.zeros(25, bool)))
