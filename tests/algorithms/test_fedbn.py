"""FedBN: normalisation layers and their statistics stay at their clients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from reference import partial as by_hand
from reference.setting import CLASSES, COHORTS, RATE, SIZES, WIDTH, three_rounds

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.models import from_linen, from_nnx, mlp, selectors


class Network(linen.Module):
    """Dense, a normalisation without a telling name, tanh, dense."""

    kind: str = "batch"

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Dense(WIDTH, name="first")(x)
        if self.kind == "batch":
            x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="between")(x)
        else:
            x = linen.LayerNorm(name="between")(x)
        return linen.Dense(CLASSES, name="head")(linen.tanh(x))


def problem(pool, buffers="local"):
    return from_linen(Network(), pool, buffers=buffers, head=("head",))


def flat(params):
    names = {"scale": ("between", "scale"), "shift": ("between", "bias")}
    for layer, prefix in (("first", "in"), ("head", "out")):
        names |= {f"{prefix}_{part}": (layer, part) for part in ("kernel", "bias")}
    return {name: np.asarray(params[layer][part], np.float64) for name, (layer, part) in names.items()}


def moments(buffers):
    kept = buffers["batch_stats"]["between"]
    return {"mean": np.asarray(kept["mean"], np.float64), "var": np.asarray(kept["var"], np.float64)}


def before_the_layer(params, x):
    return x @ params["in_kernel"] + params["in_bias"]


@pytest.fixture(scope="module")
def run(settings):
    """(algorithm, first state, state) of three rounds, in double precision."""
    setting, first = settings[True], []
    with jax.enable_x64(True):
        algorithm = fh.algorithms.fedbn(problem(setting.federation.pool), setting.solver())
        note = lambda state: (first.append(state), state)[1]  # noqa: E731
        state, _ = three_rounds(algorithm, setting.federation, setting.key, note)
        return algorithm, first[0], state


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])
def test_against_loops(settings, x64):
    setting, start = settings[x64], {}

    def look(state):
        start.update(flat(tree.combine(tree.take(state.clients.params, 0), state.server.params)))
        return state

    with jax.enable_x64(x64):
        algorithm = fh.algorithms.fedbn(problem(setting.federation.pool), setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key, look)
    shared, own = by_hand.fedbn(
        by_hand.NormalisedNetwork,
        start,
        setting.x,
        setting.y,
        setting.held,
        setting.batches,
        COHORTS,
        rate=RATE,
    )
    for k, (layer, mean, variance) in enumerate(own):
        kept = tree.take(state.clients, k)
        setting.same(flat(tree.combine(kept.params, state.server.params)), {**shared, **layer})
        setting.same(moments(kept.buffers), {"mean": mean, "var": variance})


def test_the_gradients_by_hand():
    """Of the reference, against differences."""
    rng = np.random.default_rng(0)
    shapes = {
        "in_kernel": (4, 5),
        "in_bias": (5,),
        "scale": (5,),
        "shift": (5,),
        "out_kernel": (5, 3),
        "out_bias": (3,),
    }
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    x, y = rng.normal(size=(6, 4)), rng.integers(0, 3, 6)

    def loss(params):
        before = before_the_layer(params, x)
        unit = (before - before.mean(0)) / np.sqrt(before.var(0) + 1e-5)
        logits = np.tanh(unit * params["scale"] + params["shift"]) @ params["out_kernel"] + params["out_bias"]
        return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(6), y])

    slopes, _, _ = by_hand.NormalisedNetwork.gradient(params, x, y)
    for name, value in params.items():
        for place in np.ndindex(value.shape):
            step = np.zeros_like(value)
            step[place] = 1e-6
            ahead, behind = (loss({**params, name: value + sign * step}) for sign in (1, -1))
            assert abs((ahead - behind) / 2e-6 - slopes[name][place]) < 1e-8


def test_layers_are_told_by_their_type_and_never_reach_the_server(run):
    algorithm, _, state = run
    assert selectors.leaf_paths(state.server.params) == [
        "first/bias",
        "first/kernel",
        "head/bias",
        "head/kernel",
    ]
    assert selectors.leaf_paths(state.clients.params) == ["between/bias", "between/scale"]
    assert jax.tree.leaves(state.server.buffers) == []
    assert algorithm.traffic(state.server).up == 8 * (4 * 5 + 5 + 5 * 3 + 3)
    assert algorithm.consensus(state.server) is None


def test_whoever_is_absent_keeps_its_layers(run):
    """The empty client is in a cohort twice; statistics of the others have moved."""
    _, first, state = run
    jax.tree.map(np.testing.assert_array_equal, tree.take(state.clients, 4), tree.take(first.clients, 4))
    for leaf, old in zip(jax.tree.leaves(state.clients), jax.tree.leaves(first.clients)):
        moved = ~np.isclose(np.asarray(leaf), np.asarray(old)).all(axis=1)
        assert moved[[0, 2, 3, 5, 6, 7, 8]].all()


def test_two_clients_of_other_scales_have_other_statistics(settings):
    """What FedBN is for: a feature's scale differs, and each client's layer takes it out."""
    setting = settings[True]
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x = np.concatenate([rng.normal(size=(40, 4)), 5 + 3 * rng.normal(size=(40, 4))])
        pool = fh.pool(x, rng.integers(0, CLASSES, 80), num_classes=CLASSES)
        federation = fh.from_index_lists(pool, None, np.split(np.arange(80), 2), test=0.0)
        network = problem(pool)
        algorithm = fh.algorithms.fedbn(network, fh.local.sgd(1e-6, batch_size=None, epochs=200))
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = fh.initial_state(algorithm, federation, key=setting.key, round_fn=round_fn)
        state, _ = jax.jit(round_fn)(algorithm, state, federation)
    for k in (0, 1):
        kept = tree.take(state.clients, k)
        params = flat(tree.combine(kept.params, state.server.params))
        seen = before_the_layer(params, x[40 * k : 40 * k + 40])
        np.testing.assert_allclose(moments(kept.buffers)["mean"], seen.mean(0), atol=1e-3)
        np.testing.assert_allclose(moments(kept.buffers)["var"], seen.var(0), rtol=1e-2)


def test_a_newcomers_statistics_are_those_of_its_rows(settings, run):
    """From a forward pass, exactly, without labels; the empty newcomer has a fresh layer."""
    setting, (algorithm, _, state) = settings[True], run
    with jax.enable_x64(True):
        clients = fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(3))
        turned = dataclasses.replace(setting.federation, y=(setting.federation.y + 1) % CLASSES)
        again = fh.adapt(algorithm, state.server, turned, key=jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, clients, again)
    for k, rows in enumerate(setting.held):
        kept = tree.take(clients, k)
        params = flat(tree.combine(kept.params, state.server.params))
        seen = before_the_layer(params, setting.x[rows])
        expected = (
            {"mean": seen.mean(0), "var": seen.var(0)}
            if SIZES[k]
            else {"mean": np.zeros(WIDTH), "var": np.ones(WIDTH)}
        )
        setting.same(moments(kept.buffers), expected)
        np.testing.assert_array_equal(params["scale"], np.ones(WIDTH))


def test_newcomers_may_begin_with_the_mean_layer(settings, run):
    setting, (algorithm, _, state) = settings[True], run
    with jax.enable_x64(True):
        served = fh.algorithms.mean_start(algorithm, state)
        clients = fh.adapt(served, state.server, setting.federation, key=jax.random.key(3))
    trained = np.array(SIZES) > 0
    for got, members in zip(jax.tree.leaves(clients.params), jax.tree.leaves(state.clients.params)):
        mean = np.asarray(members)[trained].mean(axis=0)
        assert not np.allclose(mean, np.asarray(members).mean(axis=0)), "the untrained one must not count"
        np.testing.assert_allclose(got, np.broadcast_to(mean, got.shape), rtol=1e-12)
    kept = tree.take(clients, 5)
    params = flat(tree.combine(kept.params, state.server.params))
    seen = before_the_layer(params, setting.x[setting.held[5]])
    setting.same(moments(kept.buffers), {"mean": seen.mean(0), "var": seen.var(0)})


def test_layers_without_statistics_are_served_too(settings):
    setting = settings[True]
    with jax.enable_x64(True):
        network = from_linen(Network("layer"), setting.federation.pool, head=("head",))
        algorithm = fh.algorithms.fedbn(network, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key)
        assert jax.tree.leaves(state.clients.buffers) == []
        scales = np.asarray(state.clients.params["between"]["scale"])
        assert len({row.tobytes() for row in scales}) == len(SIZES), "everybody has its own"
        fh.adapt(algorithm, state.server, setting.federation, key=jax.random.key(0))


def test_statistics_of_nnx_modules(settings):
    """Another adaptor, another memory of the running average (0.99), the same answer."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, *, rngs):
            self.first = nnx.Linear(4, WIDTH, rngs=rngs)
            self.between = nnx.BatchNorm(WIDTH, rngs=rngs)
            self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.tanh(self.between(self.first(x))))

    setting = settings[True]
    with jax.enable_x64(True):
        network = from_nnx(Net, setting.federation.pool, buffers="local", head=("head",))
        algorithm = fh.algorithms.fedbn(network, setting.solver())
        server, _ = algorithm.init(jax.random.key(0), setting.federation)
        clients = fh.adapt(algorithm, server, setting.federation, key=jax.random.key(0))
        first = server.params["first"]
        seen = setting.x[setting.held[5]] @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
        kept = [np.asarray(leaf)[5] for leaf in jax.tree.leaves(clients.buffers)]
    for expected in (seen.mean(0), seen.var(0)):
        assert any(leaf.shape == expected.shape and np.allclose(leaf, expected, rtol=1e-9) for leaf in kept)


def test_what_is_refused(settings):
    setting = settings[False]
    pool, solver = setting.federation.pool, setting.solver()
    with pytest.raises(ValueError, match=r"normalisation layers, got norm=\(\) of 'mlp'.*matching"):
        fh.algorithms.fedbn(mlp(pool, hidden=(3,)), solver)
    with pytest.raises(ValueError, match="got buffers='averaged' of 'Network': pass buffers='local'"):
        fh.algorithms.fedbn(problem(pool, "averaged"), solver)
    with pytest.raises(ValueError, match="weights must be"):
        fh.algorithms.fedbn(problem(pool), solver, weights="equal")
    with pytest.raises(ValueError, match="got all of them: the leaves are"):
        everything = dataclasses.replace(problem(pool).facts, norm=("first", "between", "head"))
        fh.algorithms.fedbn(dataclasses.replace(problem(pool), facts=everything), solver)


def test_weights_are_uniform_unless_said(settings):
    setting = settings[False]
    cohort = fh.Cohort(
        jnp.arange(2),
        jnp.ones(2, bool),
        jnp.zeros(2),
        jnp.ones(2),
        jnp.ones(2),
        jnp.int32(0),
        jnp.float32(8.0),
        2,
    )
    sizes, network = jnp.array([6.0, 2.0]), problem(setting.federation.pool)
    for options, expected in (({}, [0.5, 0.5]), ({"weights": "proportional"}, [0.75, 0.25])):
        algorithm = fh.algorithms.fedbn(network, setting.solver(), **options)
        np.testing.assert_allclose(algorithm.weighting(sizes, cohort), expected)
