"""IFCA: gradients, weights, shared leaves, the warm-up, ties, empty clusters, restarts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from concepts import concepts, everyone, initial, problem_of, run, same_partition
from reference import clustered
from reference.models import Softmax, TanhNetwork
from reference.setting import COHORTS, SIZES, flat_network, server_start, softmax_start, three_rounds

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.experiment.restarts import restarts
from fedjax_het.models import quadratic, quadratic_federation, selectors
from fedjax_het.pool import Pool

ifca = fh.algorithms.ifca


def full():
    """A step of gradient descent, in the float type at hand."""
    return fh.local.sgd(0.15, batch_size=None, epochs=1)


# --- against the loop -----------------------------------------------------------------------------------------


def in_three_clusters(starts):
    return {name: np.stack([start[name] for start in starts]) for name in starts[0]}


@pytest.mark.parametrize(
    ("average", "weights", "x64"),
    [
        ("gradients", "uniform", True),
        ("gradients", "uniform", False),
        ("gradients", "proportional", True),
        ("models", "uniform", True),
        ("models", "uniform", False),
    ],
)
def test_it_is_the_loop_of_the_paper(settings, average, weights, x64):
    setting, starts = settings[x64], [softmax_start(seed) for seed in (0, 1, 2)]
    with jax.enable_x64(x64):
        solver = full() if average == "gradients" else setting.solver()
        algorithm = ifca(setting.problem, solver, clusters=3, average=average, weights=weights)
        change = server_start(in_three_clusters(starts))
        state, log = three_rounds(algorithm, setting.federation, setting.key, change)
    numbers = {"average": average, "weights": weights}
    expected, choices, idle = setting.reference(clustered.ifca, Softmax, starts, **numbers)
    for j, centre in enumerate(expected):
        setting.same(tree.take(state.server.params, j)["head"], centre)
    np.testing.assert_array_equal(state.clients.cluster, choices)
    np.testing.assert_array_equal(state.server.idle, idle)
    assert len({j for j in choices if j >= 0}) > 1, "a test of clusters needs more than one in use"
    assert np.asarray(log["info"]["empty_clusters"]).shape == np.shape(COHORTS)


@pytest.mark.parametrize(("average", "x64"), [("models", True), ("gradients", True), ("models", False)])
def test_shared_leaves_and_a_warm_up_are_the_loop_too(settings, average, x64):
    """The body of a network is one and the same; in round 0 a random partition says who trains what."""
    setting, seen = settings[x64], {}

    def look(state):
        seen["starts"] = [flat_network(tree.take(state.server.params, j)) for j in range(3)]
        seen["groups"] = np.asarray(state.clients.group).tolist()
        return state

    with jax.enable_x64(x64):
        solver = full() if average == "gradients" else setting.solver()
        algorithm = ifca(
            setting.network,
            solver,
            clusters=3,
            average=average,
            shared=selectors.body(setting.network),
            warm_up=1,
        )
        state, _ = three_rounds(algorithm, setting.federation, setting.key, look)
    shared = ("in_kernel", "in_bias")
    for start in seen["starts"]:
        for name in shared:
            np.testing.assert_array_equal(start[name], seen["starts"][0][name])
    expected, choices, _ = setting.reference(
        clustered.ifca,
        TanhNetwork,
        seen["starts"],
        average=average,
        weights="uniform" if average == "gradients" else "proportional",
        shared=shared,
        groups=seen["groups"],
        warm_up=1,
    )
    for j, centre in enumerate(expected):
        setting.same(flat_network(tree.take(state.server.params, j)), centre)
    np.testing.assert_array_equal(state.clients.cluster, choices)
    kernels = np.asarray(state.server.params["head"]["kernel"])
    assert abs(kernels[0] - kernels[1]).max() > 1e-2
    size = 8 if x64 else 4
    body, head = setting.x.shape[1] * 5 + 5, 5 * 3 + 3
    cost = algorithm.traffic(state.server)
    assert (cost.down, cost.up) == (size * (body + 3 * head), size * (body + head) + 4)


def test_shared_leaves_and_a_warm_up_by_hand(settings):
    """Heads are means over members, the body is that of all; members are the groups, then who fits best."""
    setting, there = settings[True], (0, 2, 3, 5, 6, 8)
    with jax.enable_x64(True):
        algorithm = ifca(
            setting.network, setting.solver(), clusters=2, shared=selectors.body(setting.network), warm_up=1
        )
        round_fn = everyone(sampler=fh.sampling.fixed(list(there)))
        step = jax.jit(round_fn)
        state = initial(round_fn, algorithm, setting.federation, setting.key)
        replay = jax.jit(lambda state, k: fh.replay(round_fn, algorithm, state, setting.federation, k))
        group = np.asarray(state.clients.group)
        for round_ in range(3):
            end = {k: flat_network(replay(state, k).local.params) for k in there}
            centres = [flat_network(tree.take(state.server.params, j)) for j in range(2)]
            chosen = {k: int(group[k]) for k in there}
            if round_ > 0:
                rows = setting.held
                losses = {
                    k: [TanhNetwork.loss(c, setting.x[rows[k]], setting.y[rows[k]]) for c in centres]
                    for k in there
                    if len(rows[k])
                }
                chosen = {k: int(np.argmin(both)) for k, both in losses.items()}
            state, _ = step(algorithm, state, setting.federation)
            now = [flat_network(tree.take(state.server.params, j)) for j in range(2)]
            for name in now[0]:
                for j in range(2):
                    shared = name.startswith("in_")
                    members = [k for k in there if SIZES[k] and (shared or chosen[k] == j)]
                    total = sum(SIZES[k] for k in members)
                    mean = sum(SIZES[k] * end[k][name] for k in members) / total if total else centres[j][name]
                    np.testing.assert_allclose(now[j][name], mean, rtol=0, atol=1e-12)


# --- gradients ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_a_small_cluster_takes_small_steps():
    """F_i = |w - a_i|^2 / 2: three of four choose the first centre, one the second; m = 4 for both."""
    targets = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [10.0, 10.0]])
    federation = quadratic_federation(np.stack([np.eye(2)] * 4), targets, sizes=[1, 5, 2, 9])
    problem = quadratic(Pool(federation.x, federation.y, federation.spec.pool))
    centres = np.array([[0.5, 0.5], [8.0, 9.0]])

    def step(weights):
        algorithm = ifca(problem, fh.local.sgd(0.2, batch_size=None), average="gradients", weights=weights)
        state = initial(everyone(), algorithm, federation, jax.random.key(0))
        state = dataclasses.replace(
            state, server=dataclasses.replace(state.server, params={"w": jnp.asarray(centres)})
        )
        return np.asarray(run(algorithm, federation, 1, state=state)[0].server.params["w"])

    expected = centres - 0.2 * np.array([(3 * centres[0] - targets[:3].sum(0)), centres[1] - targets[3]]) / 4
    np.testing.assert_allclose(step("uniform"), expected, atol=1e-12)
    first = (np.array([1, 5, 2])[:, None] * (centres[0] - targets[:3])).sum(0)
    expected = centres - 0.2 * np.array([first, 9 * (centres[1] - targets[3])]) / 17
    np.testing.assert_allclose(step("proportional"), expected, atol=1e-12)


def test_a_straggler_does_its_one_batch(settings):
    from reference.late import late

    setting = settings[False]
    algorithm = ifca(setting.problem, setting.solver(), average="gradients")
    ends = []
    for work in (1.0, 0.2):
        round_fn = everyone(sampler=late([[0, 2, 3]], [[work] * 3]))
        ends.append(run(algorithm, setting.federation, 1, round_fn=round_fn))
    assert np.asarray(ends[1][1]["info"]["steps"]).tolist() == [[1, 1, 1]]
    for a, b in zip(jax.tree.leaves(ends[0][0].server), jax.tree.leaves(ends[1][0].server)):
        np.testing.assert_array_equal(a, b)


# --- starts, ties, empty clusters -----------------------------------------------------------------------------


def test_starts_are_independent_and_of_full_scale(settings):
    """Nearly equal starts would leave every choice to chance, or collapse."""
    setting = settings[False]
    server, members = ifca(setting.network, full(), clusters=4).init(jax.random.key(0), setting.federation)
    kernels = np.asarray(server.params["dense_0"]["kernel"])
    scale = kernels.std()
    for i in range(4):
        assert 0.5 * scale < kernels[i].std() < 2 * scale
        for j in range(i):
            assert (kernels[i] - kernels[j]).std() > scale
    counts = np.bincount(np.asarray(members.group), minlength=4)
    assert counts.sum() == len(SIZES) and counts.max() - counts.min() <= 1


def test_ties_are_broken_at_random_and_for_every_client_apart():
    federation = concepts([0] * 6)
    algorithm = ifca(problem_of(federation), full(), clusters=3)
    seen = set()
    for seed in range(4):
        chosen = np.asarray(run(algorithm, federation, 1, seed=seed)[0].clients.cluster)
        assert len(set(chosen.tolist())) > 1
        seen |= set(chosen.tolist())
    assert seen == {0, 1, 2}


def test_a_warm_up_trains_every_cluster_and_then_clients_choose():
    federation = concepts([0, 1] * 3)
    algorithm = ifca(problem_of(federation), fh.local.sgd(0.3, batch_size=None, epochs=5), warm_up=3)
    state, logs = run(algorithm, federation, 20)
    used, group = np.asarray(logs["info"]["cluster"]), np.asarray(state.clients.group)
    np.testing.assert_array_equal(used[:3], np.broadcast_to(group, (3, 6)))
    assert sorted(np.bincount(group).tolist()) == [3, 3]
    assert same_partition(used[-1], [0, 1] * 3)


def test_a_cluster_that_nobody_chooses_keeps_its_model_and_is_reported():
    federation = concepts([0] * 6)
    algorithm = ifca(problem_of(federation), full(), clusters=3)
    state = initial(everyone(), algorithm, federation, jax.random.key(0))
    wrong = {name: leaf.at[2].multiply(-50) for name, leaf in state.server.params["head"].items()}
    slope = jnp.linspace(-200.0, 200.0, wrong["bias"].shape[1])
    far = {"head": {**wrong, "bias": wrong["bias"].at[2].set(slope)}}
    state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=far))
    after, logs = run(algorithm, federation, 4, state=state)
    for before, leaf in zip(jax.tree.leaves(far), jax.tree.leaves(after.server.params)):
        np.testing.assert_array_equal(before[2], leaf[2])
        assert np.isfinite(np.asarray(leaf)).all()
    assert int(after.server.idle[2]) == 4
    empty = np.asarray(logs["info"]["empty_clusters"])
    assert empty[0].tolist() == [0] * 6 and (empty[1:] >= 1).all()


def test_one_cluster_by_gradients_is_uniform_gradient_descent(settings):
    setting = settings[False]
    uniform = {"weighting": fh.weighting.uniform()}
    round_fn = everyone(**uniform)
    average = fh.algorithms.fedavg(setting.problem, full())
    ours, _ = run(ifca(setting.problem, full(), clusters=1, average="gradients"), setting.federation, 3)
    plain, _ = run(average, setting.federation, 3, round_fn=round_fn)
    for a, b in zip(jax.tree.leaves(ours.server.params), jax.tree.leaves(plain.server.params)):
        np.testing.assert_allclose(a[0], b, atol=1e-6)


# --- restarts -------------------------------------------------------------------------------------------------


def test_restarts_keep_the_run_that_fits_the_training_rows_best():
    federation = concepts([0, 1] * 3)
    algorithm = ifca(problem_of(federation), fh.local.sgd(0.3, batch_size=None, epochs=5))
    key = jax.random.key(2)
    found = restarts(algorithm, federation, times=6, key=key, rounds=12)
    assert found.losses.shape == (6,) and found.best == int(np.argmin(found.losses))
    assert found.losses.max() > 2 * found.losses.min(), (
        "some starts merge the concepts, or restarts show nothing"
    )
    assert same_partition(found.state.clients.cluster, [0, 1] * 3)
    own = fh.evaluate(algorithm, found.state, federation, split="train").personal["loss"]
    assert float(jnp.mean(own)) == pytest.approx(found.losses[found.best], rel=1e-5)
    plain, _ = fh.simulate(algorithm, federation, key=key, rounds=12)
    alone = restarts(algorithm, federation, times=1, key=key, rounds=12)
    for a, b in zip(jax.tree.leaves(plain.server), jax.tree.leaves(alone.state.server)):
        np.testing.assert_array_equal(a, b)
    assert alone.losses[0] == found.losses[0]


def test_restarts_pass_by_a_run_that_diverges_and_say_so_if_all_do():
    federation = concepts([0, 1] * 3)
    problem = problem_of(federation, l2=1.0)
    wild = ifca(problem, fh.local.sgd(1e30, batch_size=None, epochs=5))
    with pytest.raises(fh.NonFiniteError):
        restarts(wild, federation, times=2, key=jax.random.key(0), rounds=4)
    with pytest.raises(ValueError, match="times must be >= 1"):
        restarts(wild, federation, times=0, key=jax.random.key(0), rounds=4)
    with pytest.raises(ValueError, match="state must be left out"):
        restarts(wild, federation, times=2, key=jax.random.key(0), rounds=4, state=None)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"average": "model"}, ValueError, "average must be one of.*did you mean 'models'"),
        ({"weights": "rows"}, ValueError, "weights must be one of"),
        ({"warm_up": 1.5}, TypeError, "warm_up must be a whole number"),
        ({"shared": "body"}, TypeError, "shared must be a function.*selectors.body"),
        (
            {"shared": selectors.matching("")},
            ValueError,
            "selector must choose some leaves and not others, got all",
        ),
        ({"shared": selectors.matching("tail")}, ValueError, "got none of them"),
    ],
)
def test_bad_input_is_told(settings, arguments, kind, told):
    with pytest.raises(kind, match=told):
        ifca(settings[False].network, full(), **arguments)


def test_gradients_ask_for_plain_sgd_and_clusters_for_clients(settings):
    setting = settings[False]
    with pytest.raises(ValueError, match=r"solver must be plain SGD.*'momentum'"):
        ifca(setting.problem, setting.solver(0.9), average="gradients")
    many = ifca(setting.problem, full(), clusters=10)
    with pytest.raises(ValueError, match="clusters must be at most the number of clients, 9, got 10"):
        many.init(jax.random.key(0), setting.federation)
