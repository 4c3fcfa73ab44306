"""Threshold clustering: against a NumPy loop, its rules one by one, and what sketches of it get wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from concepts import concepts, everyone, initial, problem_of, run, same_partition, stacked
from reference import clustered
from reference.late import late
from reference.models import Softmax
from reference.setting import SIZES, softmax_start

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms.leaders import attraction, leaders, sweep

cosine_cfl = fh.algorithms.cosine_cfl
SOLVER = fh.local.sgd(0.3, batch_size=None, epochs=5)
EVERYONE = [list(range(len(SIZES)))] * 6
THERE = [[1] * 9, [1, 1, 0, 1, 1, 1, 1, 1, 1], [1] * 9, [0, 1, 1, 1, 1, 1, 1, 1, 0], [1] * 9, [1] * 9]
TWO = [0, 1, 0, 1, 0, 1]


# --- against the loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x64", "numbers"),
    [
        (True, {"threshold": 0.2, "warm_up": 1, "every": 2, "hysteresis": 0.0, "sweeps": 2}),
        (True, {"threshold": 0.9, "warm_up": 0, "every": 3, "hysteresis": 0.3, "sweeps": 0, "centre": False}),
        (False, {"threshold": 0.2, "warm_up": 1, "every": 2, "hysteresis": 0.0, "sweeps": 2}),
    ],
)
def test_it_is_the_loop(settings, x64, numbers):
    """Six rounds of ragged clients, one without rows; in the first survey client 2 does not answer."""
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        algorithm = cosine_cfl(setting.problem, setting.solver(), clusters=3, **numbers)
        round_fn = everyone(sampler=late(EVERYONE, THERE))
        state = initial(round_fn, algorithm, setting.federation, setting.key)
        server = dataclasses.replace(state.server, params=stacked(start, 3))
        state = dataclasses.replace(state, server=server)
        state, log = run(algorithm, setting.federation, 6, round_fn=round_fn, state=state)
        batches = setting.batches + clustered.more_batches(setting, 3)
    models, label, placed = clustered.cosine_cfl(
        Softmax,
        start,
        setting.x,
        setting.y,
        setting.held,
        batches,
        [[k for k in range(9) if there[k]] for there in THERE],
        rate=0.15,
        clusters=3,
        **numbers,
    )
    np.testing.assert_array_equal(state.server.label, label)
    np.testing.assert_array_equal(state.server.placed, placed)
    for c, model in enumerate(models):
        setting.same(tree.take(state.server.params, c)["head"], model)
    assert len(set(label)) > 1, "a test of clusters needs more than one in use"
    first, every = numbers["warm_up"], numbers["every"]
    surveys = [int(t >= first and (t - first) % every == 0) for t in range(6)]
    np.testing.assert_array_equal(np.asarray(log["info"]["survey"])[:, 1], surveys)


# --- what it finds --------------------------------------------------------------------------------------------


def test_concepts_are_found_in_the_first_survey_and_newcomers_join_theirs():
    federation = concepts(TWO)
    algorithm = cosine_cfl(problem_of(federation), SOLVER, warm_up=2, every=5, projection=8)
    state, logs = run(algorithm, federation, 20)
    assert same_partition(state.server.label, TWO)
    used = np.asarray(logs["info"]["cluster"])
    assert not used[:3].any() and all(same_partition(row, TWO) for row in used[3:])
    own = fh.evaluate(algorithm, state, federation, split="valid").personal["accuracy"]
    assert float(jnp.mean(own)) > 0.9
    label = np.asarray(state.server.label)
    shift = [1, 0, 0, 1, 1, 0]
    joined = fh.adapt(algorithm, state.server, concepts(shift, seed=7), key=jax.random.key(3))
    assert np.asarray(joined.cluster).tolist() == [label[TWO.index(s)] for s in shift]


def test_without_centring_clients_share_the_common_descent_direction():
    """Far from the optimum all cosines are large: the sketch's threshold sees one cluster."""
    federation = concepts(TWO)
    x = federation.x.at[:, 3].add(5.0)
    federation = dataclasses.replace(federation, x=x)
    problem = problem_of(federation, l2=0.01)
    far = stacked({"kernel": np.outer([0, 0, 0, 3.0], [1, 0, -1]), "bias": np.zeros(3)}, 4)
    found = {}
    for centre in (True, False):
        algorithm = cosine_cfl(problem, SOLVER, warm_up=0, threshold=0.3, centre=centre)
        state = initial(everyone(), algorithm, federation, jax.random.key(0))
        state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=far))
        found[centre] = np.asarray(run(algorithm, federation, 1, state=state)[0].server.label)
    assert same_partition(found[True], TWO) and not found[False].any()


def test_a_threshold_of_minus_one_is_federated_averaging_between_surveys():
    federation = concepts(TWO)
    problem = problem_of(federation)
    ours, _ = run(cosine_cfl(problem, SOLVER, threshold=-1.0, warm_up=2, every=3), federation, 9)
    plain, _ = run(fh.algorithms.fedavg(problem, SOLVER), federation, 9 - 3)
    assert not np.asarray(ours.server.label).any()
    for a, b in zip(jax.tree.leaves(ours.server.params), jax.tree.leaves(plain.server.params)):
        np.testing.assert_allclose(a[0], b, atol=1e-6)


def test_all_clusters_begin_with_the_model_of_the_warm_up():
    federation = concepts(TWO)
    algorithm = cosine_cfl(problem_of(federation), SOLVER, clusters=3, threshold=0.0, warm_up=2, every=50)
    round_fn = everyone()
    start = initial(round_fn, algorithm, federation, jax.random.key(0))
    warm, _ = run(algorithm, federation, 2)
    state, _ = run(algorithm, federation, 3)
    assert warm.server.survey.round == -1 and state.server.survey.round == 2
    for name, leaf in state.server.params["head"].items():
        trained = np.asarray(warm.server.params["head"][name][0])
        np.testing.assert_array_equal(leaf, np.stack([trained] * 3))
        assert np.abs(trained - np.asarray(start.server.params["head"][name][1])).max() > 1e-2


def test_who_was_missing_goes_with_the_largest_cluster_until_a_survey_sees_it():
    """Client 0 is of the smaller concept; hysteresis holds those only whom a survey has placed."""
    shift = [1, 0, 0, 1, 0, 0]
    federation = concepts(shift)
    algorithm = cosine_cfl(problem_of(federation), SOLVER, warm_up=1, every=3, hysteresis=2.0)
    work = [[1] * 6, [0, 1, 1, 1, 1, 1], *[[1] * 6] * 4]
    round_fn = everyone(sampler=late([list(range(6))] * 6, work))
    state, _ = run(algorithm, federation, 2, round_fn=round_fn)
    label = np.asarray(state.server.label)
    assert same_partition(label[1:], shift[1:]) and label[0] == label[1]
    assert np.asarray(state.server.placed).tolist() == [False, *[True] * 5]
    state, _ = run(algorithm, federation, 3, round_fn=round_fn, state=state)
    assert same_partition(state.server.label, shift) and bool(jnp.all(state.server.placed))


@pytest.mark.parametrize(("hysteresis", "moves"), [(0.05, True), (2.0, False)])
def test_hysteresis_says_who_moves(hysteresis, moves):
    """A client in the wrong cluster goes over in the next survey, or is held where it is."""
    federation = concepts(TWO)
    algorithm = cosine_cfl(
        problem_of(federation), SOLVER, warm_up=1, every=2, hysteresis=hysteresis, clusters=2
    )
    state, _ = run(algorithm, federation, 3)
    right = np.asarray(state.server.label)
    assert same_partition(right, TWO)
    wrong = right.copy()
    wrong[0] = 1 - wrong[0]
    server = dataclasses.replace(state.server, label=jnp.asarray(wrong))
    after, _ = run(algorithm, federation, 1, state=dataclasses.replace(state, server=server))
    np.testing.assert_array_equal(after.server.label, right if moves else wrong)
    for a, b in zip(jax.tree.leaves(server.params), jax.tree.leaves(after.server.params)):
        np.testing.assert_array_equal(a, b)


def test_clients_that_are_all_alike_stay_together():
    """Unit updates without a direction of their own; no survey in a row, and no 0 / 0."""
    federation = concepts([0] * 6)
    same = dataclasses.replace(
        federation, train=dataclasses.replace(federation.train, offset=0 * federation.train.offset)
    )
    state, logs = run(cosine_cfl(problem_of(same), SOLVER, warm_up=1, every=3), same, 6)
    assert not np.asarray(state.server.label).any() and not np.asarray(state.server.placed).any()
    assert np.asarray(logs["info"]["survey"])[:, 0].tolist() == [0, 1, 0, 0, 1, 0]
    joined = fh.adapt(cosine_cfl(problem_of(same), SOLVER), state.server, same, key=jax.random.key(3))
    assert not np.asarray(joined.cluster).any()


def test_some_of_the_clients_are_refused():
    federation = concepts(TWO)
    algorithm = cosine_cfl(problem_of(federation), SOLVER)
    round_fn = everyone(sampler=fh.sampling.uniform(4))
    state = initial(round_fn, algorithm, federation, jax.random.key(0))
    with pytest.raises(ValueError, match="cohort must hold all 6 clients, got 4 slots"):
        jax.eval_shape(round_fn, algorithm, state, federation)


# --- leaders and sweeps ---------------------------------------------------------------------------------------


def units(rng, count, spread=0.3):
    """Directions around three axes."""
    rows = 4 * np.eye(3)[rng.integers(0, 3, count)] + 4 * spread * rng.normal(size=(count, 3))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


_leaders = jax.jit(leaders, static_argnums=3)
_sweep = jax.jit(sweep, static_argnums=3)


def labels(rows, threshold, most, sweeps, member=None):
    member = np.ones(len(rows), bool) if member is None else member
    alike = jnp.asarray(rows @ rows.T, jnp.result_type(float))
    found = _leaders(alike, jnp.asarray(member), jnp.asarray(threshold, alike.dtype), most)
    return np.asarray(_sweep(alike, found, jnp.asarray(member), most, jnp.int32(sweeps)))


@pytest.mark.usefixtures("x64")
def test_leaders_and_sweeps_are_those_of_the_loop():
    rng = np.random.default_rng(0)
    for trial in range(25):
        rows = units(rng, 9, spread=0.6)
        member = rng.random(9) < 0.8
        member[:2] = True
        threshold, sweeps = rng.uniform(-0.5, 0.95), trial % 4
        expected = clustered.leader_clusters(list(rows[member]), threshold, 4, sweeps)
        found = labels(rows * member[:, None], threshold, 4, sweeps, member)
        assert found[member].tolist() == expected and set(found[~member].tolist()) <= {-1}


def test_sweeps_take_the_order_of_ids_away():
    rng = np.random.default_rng(1)
    rows = units(rng, 12)
    first = labels(rows, 0.5, 4, 3)
    for _ in range(5):
        order = rng.permutation(12)
        again = np.empty(12, int)
        again[order] = labels(rows[order], 0.5, 4, 3)
        assert same_partition(first, again)


def test_nobody_falls_into_cluster_zero_by_default():
    """Opposite directions open clusters, though all of them begin without a centroid."""
    rows = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert labels(rows, 0.5, 4, 3).tolist() == [0, 1, 2, 3]
    assert len(set(labels(rows, 0.5, 2, 1).tolist())) == 2
    assert labels(rows, -1.0, 4, 3).tolist() == [0, 0, 0, 0]


def test_a_centroid_that_cancels_attracts_nobody_and_an_empty_one_is_out_of_reach():
    rows = np.array([[1.0, 0], [-1, 0], [0, 1]])
    alike = jnp.asarray(rows @ rows.T, jnp.float32)
    cosine = np.asarray(attraction(alike, jnp.asarray([0, 0, 1]), 3))
    np.testing.assert_allclose(cosine[:, 0], 0)
    np.testing.assert_allclose(cosine[:, 1], [0, 0, 1])
    assert (cosine[:, 2] == -np.inf).all()


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"clusters": 0}, ValueError, "clusters must be >= 1, got 0: 1 is FedAvg"),
        ({"threshold": 1.5}, ValueError, "threshold must be <= 1, got 1.5: it is a cosine"),
        ({"threshold": -2.0}, ValueError, "threshold must be >= -1"),
        ({"hysteresis": -0.1}, ValueError, "hysteresis must be >= 0"),
        ({"warm_up": -1}, ValueError, "warm_up must be >= 0"),
        ({"every": 1}, ValueError, "every must be >= 2, got 1: a survey trains nobody"),
        ({"sweeps": -1}, ValueError, "sweeps must be >= 0"),
        ({"projection": 0}, ValueError, "projection must be >= 1"),
    ],
)
def test_bad_input_is_told(settings, arguments, kind, told):
    with pytest.raises(kind, match=told):
        cosine_cfl(settings[False].problem, SOLVER, **arguments)
