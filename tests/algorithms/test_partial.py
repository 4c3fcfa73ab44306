"""What all methods with personal leaves have in common: the split, the schedules, and who sees what."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import partial as by_hand
from reference.models import TanhNetwork
from reference.setting import COHORTS, SIZES, WIDTH, flat_network, three_rounds

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.models import from_linen, leaf_paths, mlp, selectors
from fedjax_het.typing import Bound

CHOICES = {
    "head": (selectors.matching("^head/"), ["out_kernel", "out_bias"]),
    "body": (selectors.matching("^dense_0/"), ["in_kernel", "in_bias"]),
    "biases": (selectors.matching("bias$"), ["in_bias", "out_bias"]),
    "a predicate": (lambda path: path == "dense_0/kernel", ["in_kernel"]),
}
METHODS = ("fedper", "lgfedavg", "fedrep", "fedbn", "fedmtl")


def nothing(path):
    return False


def looked_at(start):
    def look(state):
        start.update(flat_network(tree.combine(tree.take(state.clients.params, 0), state.server.params)))
        return state

    return look


# --- the split ------------------------------------------------------------------------------------------------


def network(hidden=(3,)):
    pool = fh.pool(np.zeros((2, 3)), np.array([0, 1]))
    return mlp(pool, hidden=hidden)


def test_every_leaf_has_one_owner():
    problem = network((3, 2))
    params = problem.init(jax.random.key(0)).params
    owners = selectors.owners(params, personal=selectors.head(problem), shared=selectors.body(problem))
    assert set(owners) == set(leaf_paths(params))
    assert {path for path, owner in owners.items() if owner == "personal"} == {"head/bias", "head/kernel"}


@pytest.mark.parametrize(
    ("personal", "shared", "words"),
    [
        ("^head/", "kernel$", "must not share a leaf, got head/kernel of personal and shared"),
        ("^head/", "^dense_0/kernel", "must have every leaf between them, got neither for dense_0/bias"),
        ("^head/", "^tail/", "got neither for dense_0/bias, dense_0/kernel"),
        ("^tail/", ".", "got none of them: the leaves are dense_0/bias, .*head/kernel"),
        (".", "^tail/", "got all of them: the leaves are dense_0/bias, .*head/kernel"),
        ("layer_(d+)", ".", "got none of them"),  # a pattern that has lost its backslash
    ],
)
def test_splits_that_are_none(personal, shared, words):
    with pytest.raises(ValueError, match=words):
        fh.algorithms.partial(
            network(),
            fh.local.sgd(0.1, batch_size=2),
            personal=selectors.matching(personal),
            shared=selectors.matching(shared),
        )


def test_an_empty_part_is_named():
    params = network().init(jax.random.key(0)).params
    parts = {"one": selectors.matching("."), "two": selectors.matching("^tail/")}
    with pytest.raises(ValueError, match="two must select a leaf, got none of them: the leaves are"):
        selectors.owners(params, **parts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"personal": "head"}, "personal must be a function of a leaf's path, got 'head': pass"),
        ({"shared": ["head"]}, r"shared must be a function of a leaf's path, got \['head'\]"),
        ({"own": 3}, "own must be a Solver or None, got 3: make one"),
        ({"final": "sgd"}, "final must be a Solver or None, got 'sgd'"),
        ({"newcomer": fh.local.sgd}, "newcomer must be a Solver or None, got .*function"),
    ],
)
def test_arguments_of_the_wrong_kind(options, words):
    options = {"personal": selectors.matching("^head/"), **options}
    with pytest.raises(TypeError, match=words):
        fh.algorithms.partial(network(), fh.local.sgd(0.1, batch_size=2), **options)


# --- the schedules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "alternating"), [("biases", False), ("a predicate", True), ("head", True), ("body", True)]
)
def test_against_loops(settings, choice, alternating):
    setting, start = settings[True], {}
    selector, personal = CHOICES[choice]
    with jax.enable_x64(True):
        solver = setting.solver(0.9)
        own = fh.local.sgd(0.15, batch_size=4, epochs=1, momentum=0.9) if alternating else None
        algorithm = fh.algorithms.partial(setting.network, solver, personal=selector, own=own)
        state, _ = three_rounds(algorithm, setting.federation, setting.key, looked_at(start))
        if own is not None:
            own = by_hand.passes(own.plan, setting.federation, setting.key, len(COHORTS), "own")
    shared, kept = setting.reference(
        by_hand.partial, TanhNetwork, start, personal=personal, momentum=0.9, own=own
    )
    for k, leaves in enumerate(kept):
        params = tree.combine(tree.take(state.clients.params, k), state.server.params)
        setting.same(flat_network(params), {**shared, **leaves})


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])
def test_fedper_with_a_ridge_term_against_loops(settings, x64):
    setting, start = settings[x64], {}
    with jax.enable_x64(x64):
        ridged = mlp(setting.federation.pool, hidden=(WIDTH,), activation="tanh", l2=0.1)
        algorithm = fh.algorithms.fedper(ridged, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key, looked_at(start))
    shared, kept = setting.reference(
        by_hand.partial, TanhNetwork, start, personal=["out_kernel", "out_bias"], ridge=0.1
    )
    for k, leaves in enumerate(kept):
        params = tree.combine(tree.take(state.clients.params, k), state.server.params)
        setting.same(flat_network(params), {**shared, **leaves})


def test_recorded_passes_are_the_published_order(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        again = by_hand.passes(setting.solver().plan, setting.federation, setting.key, len(COHORTS))
    for mine, published in zip(again, setting.batches):
        for a, b in zip(mine, published):
            assert len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
def test_without_personal_leaves_the_first_pass_is_none(settings, rule):
    """FedAvg bit for bit, whatever `own` is: nothing is trained, no buffer moves, no step is counted."""
    setting = settings[True]
    with jax.enable_x64(True):
        solver = setting.solver(0.9)
        if rule == "adamw":
            solver = fh.local.from_optax(optax.adamw, learning_rate=0.01, weight_decay=0.1, batch_size=4)
        partly = fh.algorithms.partial(
            setting.network, solver, personal=CHOICES["head"][0], own=solver, final=solver
        )
        partly = dataclasses.replace(partly, personal=nothing)
        one, log = three_rounds(partly, setting.federation, setting.key)
        average = fh.algorithms.fedavg(setting.network, solver)
        other, plain = three_rounds(average, setting.federation, setting.key)
    jax.tree.map(np.testing.assert_array_equal, one.server.params, other.server.params)
    jax.tree.map(np.testing.assert_array_equal, log["info"], plain["info"])


def test_a_state_of_a_solver_never_crosses_rounds_or_parts(settings):
    """Clients keep their leaves and buffers and nothing else."""
    setting = settings[False]
    for name in ("fedper", "lgfedavg", "fedrep", "fedmtl"):
        algorithm = fh.algorithms.make(name, setting.network, setting.solver(0.9))
        server, clients = algorithm.init(jax.random.key(0), setting.federation)
        both = leaf_paths(server.params) + leaf_paths(clients.params)
        assert sorted(both) == leaf_paths(setting.network.init(jax.random.key(0)).params)
        assert jax.tree.leaves(clients.buffers) == []


# --- who sees what --------------------------------------------------------------------------------------------


def tagged(problem):
    """The problem with a leaf that no prediction reads, "tag" in each of its layers."""

    def init(key):
        model = problem.init(key)
        real = jnp.result_type(float)
        layers = {name: {**layer, "tag": jnp.zeros((2,), real)} for name, layer in model.params.items()}
        return fh.Model(layers, model.buffers)

    def apply(params, buffers, x, key=None, train=False, **rows):
        bare = {name: {n: v for n, v in layer.items() if n != "tag"} for name, layer in params.items()}
        return problem.apply(bare, buffers, x, key, train, **rows)

    return dataclasses.replace(problem, init=init, apply=apply)


def normalised(pool):
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            x = linen.Dense(WIDTH, name="first")(x)
            x = linen.BatchNorm(use_running_average=not train, name="between")(x)
            return linen.Dense(3, name="head")(linen.relu(x))

    return from_linen(Net(), pool, buffers="local", head=("head",))


def build(name, setting):
    problem = tagged(normalised(setting.federation.pool) if name == "fedbn" else setting.network)
    return fh.algorithms.make(name, problem, setting.solver(0.9))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_personal_is_in_an_upload(settings, name):
    """NaN in a personal leaf of everybody, the cohort included, reaches no upload, no server and no model of
    another part: only the leaf itself is NaN."""
    setting = settings[False]
    algorithm = build(name, setting)
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    state = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)

    def taint(path, leaf):
        tag = jax.tree_util.keystr(path, simple=True, separator="/").endswith("tag")
        return jnp.full_like(leaf, jnp.nan) if tag else leaf

    personal = jax.tree_util.tree_map_with_path(taint, state.clients.params)
    assert not bool(tree.all_finite(personal)), "there is something to betray"
    state = dataclasses.replace(state, clients=dataclasses.replace(state.clients, params=personal))
    after, _ = jax.jit(fh.make_block(round_fn, 3))(algorithm, state, setting.federation)
    assert bool(tree.all_finite(after.server))
    for path, leaf in selectors.leaves(after.clients.params):
        assert bool(jnp.all(jnp.isnan(leaf))) == path.endswith("tag")
    sent = jax.jit(fh.replay)(round_fn, algorithm, state, setting.federation, 0).total
    assert bool(tree.all_finite(sent))
    paths = leaf_paths(sent["delta"])
    assert paths == leaf_paths(state.server.params) and not set(paths) & set(leaf_paths(personal))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_personal_of_the_absent_is_read(settings, name):
    setting = settings[False]
    algorithm = build(name, setting)
    round_fn = fh.make_round(fh.sampling.fixed([0, 2, 4]), fh.executors.vmapped())
    state = fh.initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    away = jnp.array([1, 3, 4, 5, 6, 7, 8])  # the empty client 4 is drawn, and absent
    spoiled = jax.tree.map(lambda leaf: leaf.at[away].set(jnp.nan), state.clients)
    run = jax.jit(round_fn)
    clean, _ = run(algorithm, state, setting.federation)
    after, _ = run(algorithm, dataclasses.replace(state, clients=spoiled), setting.federation)
    jax.tree.map(np.testing.assert_array_equal, after.server, clean.server)
    jax.tree.map(np.testing.assert_array_equal, tree.take(after.clients, away), tree.take(spoiled, away))


# --- a limit in closed form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True], ids=["joint", "alternating"])
@pytest.mark.parametrize("personal", ["bias$", "kernel$"])
def test_full_batches_reach_the_joint_optimum(personal, own):
    """One full step of each part in each round ends where sum_k n_k F_k(u, v_k) is least: with own biases, at
    the regression with fixed effects; with own kernels, at one slope a client and a common intercept."""
    rng, sizes, features = np.random.default_rng(2), (8, 5, 11), 2
    x = rng.normal(size=(sum(sizes), features)) + rng.normal(size=features)
    y = rng.normal(size=(sum(sizes), 1))
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    owner = np.repeat(np.arange(3), sizes)
    with jax.enable_x64(True):
        pool = fh.pool(x, y, task="regression")
        federation = fh.from_index_lists(pool, None, parts, test=0.0)
        solver = fh.local.sgd(0.15, batch_size=None, epochs=1)
        algorithm = fh.algorithms.partial(
            fh.models.linear(pool), solver, personal=selectors.matching(personal), own=solver if own else None
        )
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        state, _ = jax.jit(fh.make_block(round_fn, 3000))(algorithm, state, federation)
    dummies = np.eye(3)[owner]
    if personal == "bias$":
        found = np.linalg.lstsq(np.hstack([x, dummies]), y[:, 0], rcond=None)[0]
        kernel, bias = state.server.params["head"]["kernel"], state.clients.params["head"]["bias"]
    else:
        design = np.hstack([dummies[:, [k]] * x for k in range(3)] + [np.ones((len(x), 1))])
        found = np.linalg.lstsq(design, y[:, 0], rcond=None)[0]
        kernel, bias = state.clients.params["head"]["kernel"], state.server.params["head"]["bias"]
    got = np.concatenate([np.asarray(kernel).ravel(), np.asarray(bias).ravel()])
    np.testing.assert_allclose(got, found, rtol=1e-8, atol=1e-8)


# --- newcomers ------------------------------------------------------------------------------------------------


def test_a_newcomers_head_is_trained_and_the_body_is_held(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedper(setting.network, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key)
        idle = dataclasses.replace(algorithm, newcomer=None)
        trained, fresh = (
            fh.adapt(each, state.server, setting.federation, key=jax.random.key(1))
            for each in (algorithm, idle)
        )

        def scored(clients):
            joined = dataclasses.replace(state, clients=clients)
            return np.asarray(
                fh.evaluate(algorithm, joined, setting.federation, split="train").personal["loss"]
            )

        there = np.array(SIZES) > 0
        assert (scored(trained)[there] < scored(fresh)[there]).all()
    assert leaf_paths(trained.params) == ["head/bias", "head/kernel"]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[4], b[4]), trained.params, fresh.params)


def test_the_mean_leaves_of_trained_clients_serve_newcomers(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedper(setting.network, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key)
        start = fh.algorithms.mean_start(algorithm, state).start
        nobody = dataclasses.replace(state.seen, round=jnp.full_like(state.seen.round, -1))
        untrained = fh.algorithms.mean_start(algorithm, dataclasses.replace(state, seen=nobody)).start
    trained = np.array(SIZES) > 0
    for got, every, members in zip(
        *map(jax.tree.leaves, (start.params["head"], untrained.params["head"], state.clients.params))
    ):
        np.testing.assert_allclose(got, np.asarray(members)[trained].mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(every, np.asarray(members).mean(axis=0), rtol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, start.params["dense_0"], state.server.params["dense_0"])


def test_buffers_that_are_no_average_stay(settings):
    """A counter, a float that only grows, and a float that nothing moves."""
    from fedjax_het.algorithms.newcomers import statistics

    setting = settings[True]
    problem = setting.network

    def apply(params, buffers, x, key=None, train=False):
        out, _ = problem.apply(params, (), x)
        mean = 0.8 * buffers["mean"] + 0.2 * x.mean(axis=0)
        moved = {"count": buffers["count"] + 1, "sum": buffers["sum"] + 1, "fixed": buffers["fixed"]}
        return out, {**moved, "mean": mean}

    with jax.enable_x64(True):
        start = {"count": jnp.int32(3), "sum": jnp.ones(()), "fixed": jnp.ones(2), "mean": jnp.zeros(4)}
        counting = dataclasses.replace(problem, apply=Bound(apply, ()))
        params = problem.init(jax.random.key(0)).params
        federation = setting.federation
        data = federation.data("train", federation.locate("train", jnp.int32(0), jnp.int32(5)))
        got = statistics(counting, fh.Model(params, start), data)
    for name in ("count", "sum", "fixed"):
        np.testing.assert_array_equal(got[name], start[name])
    np.testing.assert_allclose(got["mean"], setting.x[setting.held[5]].mean(axis=0), rtol=1e-12)
