"""CFL: against a NumPy loop that tries all cuts, what it finds, what it leaves alone, and whom it can serve."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from concepts import concepts, everyone, initial, pool_of, problem_of, run, same_partition, stacked
from reference import clustered
from reference.late import late
from reference.models import Softmax
from reference.setting import SIZES, softmax_start

import fedjax_het as fh
from fedjax_het import keys, tree
from fedjax_het.algorithms.cuts import averaged
from fedjax_het.algorithms.halves import relative_noise
from fedjax_het.permutation import permute

cfl = fh.algorithms.cfl
EVERYONE = [list(range(len(SIZES)))] * 3
THERE = [[1] * 9, [1, 1, 0, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 1, 1, 1, 1, 1]]
"""Who answers; client 4 never has rows. Whose cluster waits for 2, 8 or 3 is not cut in that round."""

SOLVER = fh.local.sgd(0.3, batch_size=None, epochs=5)
PLAIN = {"gap": 0, "memory": 0}
SETTLED = {"eps1": 0.25, "relative": True, "eps2": 0.2, "clusters": 4, **PLAIN}
EAGER = SETTLED | {"eps1": 1e3, "eps2": 0.0}


# --- against the loop -----------------------------------------------------------------------------------------


def against_the_loop(setting, x64, most, **numbers):
    start = softmax_start()
    with jax.enable_x64(x64):
        algorithm = cfl(setting.problem, setting.solver(), clusters=most, **numbers)
        round_fn = everyone(sampler=late(EVERYONE, THERE))
        state = initial(round_fn, algorithm, setting.federation, setting.key)
        server = dataclasses.replace(state.server, params=stacked(start, most))
        state = dataclasses.replace(state, server=server)
        state, log = run(algorithm, setting.federation, 3, round_fn=round_fn, state=state)
    cohorts = [[k for k in range(9) if there[k]] for there in THERE]
    expected = clustered.cfl(
        Softmax,
        start,
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        cohorts,
        rate=0.15,
        most=most,
        **numbers,
    )
    return state.server, log, expected


@pytest.mark.parametrize(
    ("x64", "most", "numbers"),
    [
        (True, 8, {"eps1": 100.0, "eps2": 0.01, "relative": False, **PLAIN}),
        (True, 8, {"eps1": 0.8, "eps2": 0.01, "relative": True, "weights": "uniform", **PLAIN}),
        (
            True,
            3,
            {"eps1": 100.0, "eps2": 0.3, "relative": False, "linkage": "complete", "gamma": 0.4, **PLAIN},
        ),
        (False, 8, {"eps1": 100.0, "eps2": 0.01, "relative": False, **PLAIN}),
        (False, 8, {"eps1": 0.8, "eps2": 0.01, "relative": True, **PLAIN}),
        (True, 8, {"eps1": 0.8, "eps2": None, "relative": True, **PLAIN}),
        (True, 8, {"eps1": 0.9, "eps2": 0.01, "relative": True, "gap": 0, "memory": 0.6}),
        (True, 8, {"eps1": 0.9, "eps2": 0.01, "relative": True, "gap": 0.02, "memory": 0.3}),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, x64, most, numbers):
    """Three rounds of splits, of ragged clients of whom one has no rows and some do not answer."""
    setting = settings[x64]
    server, log, (models, label, splits) = against_the_loop(setting, x64, most, **numbers)
    np.testing.assert_array_equal(server.label, label)
    assert int(server.used) == len(models) > 1, "a test of splits needs one"
    for c, model in enumerate(models):
        setting.same(tree.take(server.params, c)["head"], model)
    for i, split in enumerate(splits):
        record = tree.take(server.splits, i)
        assert (int(record.origin), int(record.round)) == (split["origin"], split["round"])
        assert float(record.cross) == pytest.approx(split["cross"], abs=setting.tolerance)
        setting.same(record.params["head"], split["model"])
        np.testing.assert_array_equal(np.flatnonzero(np.asarray(record.side) == 1), sorted(split["leave"]))
        np.testing.assert_array_equal(np.flatnonzero(np.asarray(record.side) >= 0), sorted(split["told"]))
    assert np.asarray(server.splits.origin)[len(splits) :].tolist() == [-1] * (max(most - 1, 1) - len(splits))
    assert np.asarray(log["info"]["cluster"])[0].tolist() == [0] * len(SIZES)


def test_the_loop_splits_in_more_than_one_round_and_waits_for_who_is_missing(settings):
    _, _, (_, _, splits) = against_the_loop(settings[True], True, 8, eps1=100.0, eps2=0.01, **PLAIN)
    assert len({split["round"] for split in splits}) > 1
    sides = [set(split["told"]) for split in splits if split["round"] == 1]
    assert all(not side & {2, 8} for side in sides)


# --- what it finds --------------------------------------------------------------------------------------------

THREE = [0, 1, 2, 0, 1, 2]


@pytest.fixture(scope="module")
def three():
    """(federation, algorithm, state, logs) of three concepts, found by two cuts in a row."""
    federation = concepts(THREE)
    algorithm = cfl(problem_of(federation), SOLVER, warm_up=4, **SETTLED)
    return federation, algorithm, *run(algorithm, federation, 30)


def test_concepts_are_found_by_recursion_and_kept(three):
    _, _, state, logs = three
    server = state.server
    assert int(server.used) == 3 and same_partition(server.label, THREE)
    assert server.label.dtype == np.int32 and bool(logs["sound"].all())
    used = np.asarray(logs["info"]["cluster"]).max(axis=1)
    assert used[0] == 0 and used[-1] == 2 and (np.diff(used) >= 0).all()
    assert np.asarray(server.splits.round)[:2].min() >= 4, "not during the warm-up"
    sides = np.asarray(server.splits.side)
    assert sides[0].min() >= 0 and set(sides[1].tolist()) == {-1, 0, 1}, "the second cut is of a part"
    origin = int(server.splits.origin[1])
    left = sides[0] == (1 if origin == 1 else 0)
    np.testing.assert_array_equal(sides[1] >= 0, left)
    cross = np.asarray(server.splits.cross)
    assert cross[:2].max() < 0 and cross[2] == 1 and int(server.splits.origin[2]) == -1


def test_everyone_is_far_better_off_than_with_one_model(three):
    federation, algorithm, state, _ = three
    one = run(fh.algorithms.fedavg(algorithm.problem, SOLVER), federation, 30)[0]
    average = fh.algorithms.fedavg(algorithm.problem, SOLVER)
    own = fh.evaluate(algorithm, state, federation, split="valid").personal["accuracy"]
    all_alike = fh.evaluate(average, one, federation, split="valid").personal["accuracy"]
    assert float(jnp.mean(own)) > 0.9 > float(jnp.mean(all_alike)) + 0.2


def test_newcomers_walk_down_the_tree(three):
    _, algorithm, state, _ = three
    shift = [2, 2, 1, 0, 0, 1, 2]
    newcomers = concepts(shift, seed=9, empty=(6,))
    joined = fh.adapt(algorithm, state.server, newcomers, key=jax.random.key(5))
    label, theirs = np.asarray(state.server.label), np.asarray(joined.cluster)
    home = {concept: label[THREE.index(concept)] for concept in range(3)}
    assert theirs[:6].tolist() == [home[concept] for concept in shift[:6]]
    assert theirs[6] == 0, "one without rows goes with who stayed"
    scores = fh.evaluate(algorithm, dataclasses.replace(state, clients=joined), newcomers, split="valid")
    assert float(jnp.min(scores.personal["accuracy"][:6])) > 0.7


def test_before_a_split_newcomers_get_the_one_model():
    federation = concepts([0, 1] * 3)
    algorithm = cfl(problem_of(federation), SOLVER, **(SETTLED | {"eps2": 9.0}))
    state, _ = run(algorithm, federation, 1)
    joined = fh.adapt(algorithm, state.server, federation, key=jax.random.key(5))
    assert np.asarray(joined.cluster).tolist() == [0] * 6


def test_a_settled_federation_of_one_concept_is_left_whole_only_by_the_second_number():
    """At the joint optimum mean / max vanishes whatever the clients are; the relative test alone would cut."""
    federation = concepts([0] * 6)
    problem = problem_of(federation, l2=0.1)
    state, logs = run(cfl(problem, SOLVER, **SETTLED), federation, 60)
    assert int(state.server.used) == 1
    norms = np.asarray(logs["info"]["norm"])[-1]
    assert norms.max() < SETTLED["eps2"]
    state, _ = run(cfl(problem, SOLVER, **(SETTLED | {"eps2": 0.0})), federation, 60)
    assert int(state.server.used) > 1
    state, _ = run(cfl(problem, SOLVER, **(SETTLED | {"eps2": 0.0, "gamma": None})), federation, 60)
    assert int(state.server.used) == 1, "where the noise is measured, it says so too"


def test_measured_noise_does_not_hinder_the_cut_of_two_concepts():
    federation = concepts([0, 1] * 3)
    state, logs = run(cfl(problem_of(federation), SOLVER, **(SETTLED | {"gamma": None})), federation, 20)
    assert same_partition(state.server.label, [0, 1] * 3)
    gamma = np.asarray(logs["info"]["gamma"])
    assert gamma.min() > 0 and gamma.max() <= 1


@pytest.mark.parametrize("clusters", [4, 1])
def test_the_defaults_find_four_permutations_of_labels_and_leave_alike_clients_together(clusters):
    pool = fh.datasets.digits()
    dealt = fh.heterogeneity.iid(pool, clients=12, seed=4, test=0.2)
    federation = fh.heterogeneity.concept.permute(dealt, clusters=clusters, seed=4)
    solver = fh.local.sgd(0.2, batch_size=None, steps=10)
    algorithm = cfl(fh.models.mlp(pool, hidden=(16,)), solver)
    state, _ = fh.simulate(algorithm, federation, key=jax.random.key(0), rounds=80, every=80, progress=False)
    assert int(state.server.used) == clusters
    assert same_partition(state.server.label, federation.truth["cluster"])


def test_a_gap_refuses_to_cut_off_a_single_client():
    federation = concepts([0] * 5 + [1])
    problem = problem_of(federation)
    state, _ = run(cfl(problem, SOLVER, **SETTLED), federation, 20)
    assert same_partition(state.server.label, [0] * 5 + [1])
    state, _ = run(cfl(problem, SOLVER, **(SETTLED | {"gap": 1e-3})), federation, 20)
    assert int(state.server.used) == 1, "nobody is near to the one"


def test_the_average_of_updates_begins_with_the_first_and_waits_for_who_is_missing():
    before = jnp.array([[0.0, 0.0], [3.0, 0.0], [4.0, 3.0], [4.0, 3.0]])
    update = jnp.array([[1.0, 1.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    present = jnp.array([True, True, True, False])
    recent, norm = averaged(before, update, present, jnp.float32(0.5))
    np.testing.assert_allclose(recent, [[1, 1], [2, 1], [2, 1.5], [4, 3]])
    np.testing.assert_allclose(norm, [2**0.5, 5**0.5, 2.5, 0], rtol=1e-6)
    latest, norm = averaged(before, update, present, jnp.float32(0))
    np.testing.assert_array_equal(latest, [[1, 1], [1, 2], [0, 0], [4, 3]], "nothing is remembered")
    np.testing.assert_allclose(norm, [2**0.5, 5**0.5, 0, 0], rtol=1e-6)


# --- rules ----------------------------------------------------------------------------------------------------


def test_a_refused_cut_goes_on_training_as_federated_averaging():
    federation = concepts([0, 1] * 3)
    problem = problem_of(federation)
    refused, _ = run(cfl(problem, SOLVER, **(SETTLED | {"gamma": 0.9999})), federation, 8)
    average, _ = run(fh.algorithms.fedavg(problem, SOLVER), federation, 8)
    assert int(refused.server.used) == 1
    for a, b in zip(jax.tree.leaves(refused.server.params), jax.tree.leaves(average.server.params)):
        np.testing.assert_allclose(a[0], b, atol=1e-6)
    cut, _ = run(cfl(problem, SOLVER, **SETTLED), federation, 8)
    assert int(cut.server.used) > 1, "the same numbers cut if the noise is said to be small"


def test_both_parts_begin_from_the_model_that_their_members_had_received():
    federation = concepts([0, 1] * 3)
    algorithm = cfl(problem_of(federation), SOLVER, **SETTLED)
    state, _ = run(algorithm, federation, 1)
    while int(state.server.used) == 1:
        before = state
        state, _ = run(algorithm, federation, 1, state=state)
        assert int(state.round) < 12
    for leaf, after, kept in zip(
        jax.tree.leaves(before.server.params),
        jax.tree.leaves(state.server.params),
        jax.tree.leaves(state.server.splits.params),
    ):
        for copy in (after[0], after[1], kept[0]):
            np.testing.assert_array_equal(copy, leaf[0])


def test_clusters_of_two_are_final_and_there_are_no_more_than_asked_for():
    federation = concepts([0, 0, 1, 1, 2, 2])
    state, _ = run(cfl(problem_of(federation), SOLVER, **EAGER), federation, 12)
    assert np.bincount(np.asarray(state.server.label)).tolist() == [2, 2, 2]
    assert int(state.server.used) == 3, "a fourth would be free"
    state, _ = run(cfl(problem_of(federation), SOLVER, **(EAGER | {"clusters": 2})), federation, 6)
    assert int(state.server.used) == 2 == len(set(np.asarray(state.server.label).tolist()))


def test_clients_without_rows_or_without_an_update_follow_the_larger_part():
    """One with rows has the concept of client 0, which has none; four have the other."""
    shift = [1, 0, 0, 1, 0, 0]
    federation = concepts(shift, empty=(0,))
    state, _ = run(cfl(problem_of(federation), SOLVER, **SETTLED), federation, 10)
    label = np.asarray(state.server.label)
    assert same_partition(label[1:], shift[1:]) and label[0] == label[1] != label[3]
    assert np.asarray(state.server.splits.side)[0, 0] == -1


def test_a_cluster_is_not_cut_while_a_member_is_missing():
    federation = concepts([0, 1] * 3)
    algorithm = cfl(problem_of(federation), SOLVER, **SETTLED)
    work = [[1, 1, 1, 1, 1, 0]] * 12 + [[1] * 6] * 3
    round_fn = everyone(sampler=late([list(range(6))] * 15, work))
    state, _ = run(algorithm, federation, 12, round_fn=round_fn)
    assert int(state.server.used) == 1
    state, _ = run(algorithm, federation, 3, round_fn=round_fn, state=state)
    assert same_partition(state.server.label, [0, 1] * 3)


def test_cohorts_that_cannot_hold_everyone_are_refused():
    federation = concepts([0, 1] * 3)
    algorithm = cfl(problem_of(federation), SOLVER, clusters=4)
    round_fn = everyone(sampler=fh.sampling.uniform(4))
    state = initial(round_fn, algorithm, federation, jax.random.key(0))
    with pytest.raises(ValueError, match=r"cohort must hold all 6 clients, got 4 slots.*sampling\.everyone"):
        jax.eval_shape(round_fn, algorithm, state, federation)


def test_a_round_that_splits_does_not_depend_on_the_executor():
    federation = concepts(THREE)
    algorithm = cfl(problem_of(federation), SOLVER, **EAGER)
    ends = [
        run(algorithm, federation, 3, round_fn=everyone(executor))[0].server
        for executor in (fh.executors.vmapped(), fh.executors.chunked(4))
    ]
    np.testing.assert_array_equal(ends[0].label, ends[1].label)
    for a, b in zip(jax.tree.leaves(ends[0].splits), jax.tree.leaves(ends[1].splits)):
        np.testing.assert_allclose(a, b, atol=1e-4)


# --- what is served -------------------------------------------------------------------------------------------


def test_the_best_model_on_validation_rows_is_served():
    """A spoiled model gives way to the one that it descends from, where there are such rows."""
    federation = concepts([0, 1] * 3)
    algorithm = cfl(problem_of(federation), SOLVER, **SETTLED)
    state, _ = run(algorithm, federation, 12)
    assert int(state.server.used) == 2
    good = fh.evaluate(algorithm, state, federation, split="train").personal["loss"]
    ruined = jax.tree.map(lambda leaf: leaf.at[1].multiply(-5), state.server.params)
    spoiled = dataclasses.replace(state, server=dataclasses.replace(state.server, params=ruined))
    best = fh.evaluate(algorithm, spoiled, federation, split="train").personal["loss"]
    plain = dataclasses.replace(algorithm, serve="cluster")
    poor = fh.evaluate(plain, spoiled, federation, split="train").personal["loss"]
    there = np.asarray(state.server.label) == 1
    np.testing.assert_allclose(best[~there], good[~there], rtol=1e-5)
    assert (np.asarray(best)[there] < 2).all() and (np.asarray(poor)[there] > 3).all()
    blind = dataclasses.replace(
        federation, valid=dataclasses.replace(federation.valid, size=0 * federation.valid.size)
    )
    unseen = fh.evaluate(algorithm, spoiled, blind, split="train").personal["loss"]
    np.testing.assert_allclose(unseen, poor, rtol=1e-5)


# --- large models ---------------------------------------------------------------------------------------------


def test_a_projection_finds_the_same_and_reports_its_distortion():
    federation = concepts([0, 1] * 3)
    network = fh.models.mlp(pool_of(federation), hidden=(130,))
    numbers = {"eps1": 0.5, "relative": True, "eps2": 0.2, "clusters": 2, **PLAIN}
    state, logs = run(cfl(network, SOLVER, projection=128, **numbers), federation, 25)
    assert same_partition(state.server.label, [0, 1] * 3)
    changed = np.asarray(logs["info"]["distortion"])
    assert 0 < changed.max() < 5 * np.sqrt(2 / 128)
    assert state.server.splits.unit.shape == (1, 6, 128)
    whole, logs = run(cfl(network, SOLVER, **numbers), federation, 25)
    assert same_partition(whole.server.label, [0, 1] * 3) and "distortion" not in logs["info"]
    assert whole.server.splits.unit.shape == (1, 6, 1024), "newcomers are compared by a projection all the same"
    for run_of, server in (({"projection": 128}, state.server), ({}, whole.server)):
        algorithm = cfl(network, SOLVER, **numbers, **run_of)
        joined = fh.adapt(algorithm, server, concepts([1, 0, 1], seed=4), key=jax.random.key(1))
        label = np.asarray(server.label)
        assert np.asarray(joined.cluster).tolist() == [label[1], label[0], label[1]]


# --- noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [40, 301, 2, 1, 0])
def test_noise_is_measured_by_halves(rows):
    """301 rows are more than a chunk. The halves share no row and differ by one in size at most."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(rows)
        x, y = rng.normal(size=(400, 3)), rng.normal(size=400)
        pool = fh.pool(x, y, task="regression")
        federation = fh.from_index_lists(pool, None, [np.arange(rows), np.arange(rows, 400)], test=0.0)
        problem = fh.models.linear(pool, l2=0.3)
        model = problem.fresh(jax.random.key(0))
        model = model._replace(params=jax.tree.map(lambda leaf: leaf + 0.4, model.params))
        data = federation.data("train", federation.locate("train", jnp.int32(0), jnp.int32(0)))

        got = float(relative_noise(problem, model, data, jax.random.key(3)))
        if rows < 2:
            assert got == 0
            return

        def of_row(x, y):
            def loss(params):
                return problem.losses(problem.apply(params, (), x[None])[0], y[None])[0]

            return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(jax.grad(loss)(model.params))])

        slopes = np.asarray(jax.vmap(of_row)(pool.x[:rows], pool.y[:rows]))
        ridge = 0.3 * np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.params)])
        rank = np.asarray(permute(jnp.arange(rows), jnp.int32(rows), keys.seed(jax.random.key(3)))) % 2
        assert abs((rank == 0).sum() - (rank == 1).sum()) <= 1
        first, second = (slopes[rank == half].mean(axis=0) + ridge for half in (0, 1))
        apart, agreement = np.linalg.norm(first - second) / 2, first @ second
        expected = min(1.0, apart / np.sqrt(agreement)) if agreement > 0 else 1.0
        assert got == pytest.approx(expected, rel=1e-9)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"clusters": 0}, ValueError, "clusters must be >= 1, got 0: 1 is FedAvg"),
        ({"clusters": 2.0}, TypeError, "clusters must be a whole number, got 2.0"),
        ({"eps1": 0.0}, ValueError, "eps1 must be > 0.*learning rate times steps"),
        ({"eps2": -1.0}, ValueError, "eps2 must be >= 0"),
        ({"gamma": 1.0}, ValueError, "gamma must be < 1"),
        ({"gamma": -0.1}, ValueError, "gamma must be >= 0"),
        ({"gap": -0.1}, ValueError, "gap must be >= 0"),
        ({"memory": 1.0}, ValueError, "memory must be < 1, got 1.0: 0 judges"),
        ({"linkage": "singel"}, ValueError, "linkage must be one of.*did you mean 'single'"),
        ({"weights": "rows"}, ValueError, "weights must be one of"),
        ({"serve": "leaf"}, ValueError, "serve must be one of"),
        ({"warm_up": -1}, ValueError, "warm_up must be >= 0"),
        ({"projection": 0}, ValueError, "projection must be >= 1, got 0: None compares whole updates"),
    ],
)
def test_bad_input_is_told(settings, arguments, kind, told):
    with pytest.raises(kind, match=told):
        cfl(settings[False].problem, SOLVER, **arguments)
