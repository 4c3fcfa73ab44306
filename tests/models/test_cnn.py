"""Convolutional models: against flax's own layers, in rounds, and a user's own modules on the fast path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import fedjax_het as fh
from fedjax_het.models import body, cnn, from_linen, from_nnx, head, leaf_paths, norm, resnet

ROWS, SIDE = 24, 8


def images(shape=(SIDE, SIDE), rows=ROWS, classes=3):
    rng = np.random.default_rng(0)
    return fh.pool(rng.normal(size=(rows, *shape)), np.arange(rows) % classes, num_classes=classes)


class Flax(linen.Module):
    """The layers of `cnn`, with their names."""

    @linen.compact
    def __call__(self, x):
        x = x[..., None] if x.ndim == 3 else x
        for i, size in enumerate((4, 6)):
            x = linen.relu(linen.Conv(size, (5, 5), name=f"conv_{i}")(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.relu(linen.Dense(7, name="dense_0")(x.reshape(x.shape[0], -1)))
        return linen.Dense(3, name="head")(x)


class Nnx(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs):
        self.conv_0 = nnx.Conv(1, 4, (5, 5), rngs=rngs)
        self.conv_1 = nnx.Conv(4, 6, (5, 5), rngs=rngs)
        self.dense_0 = nnx.Linear(24, 7, rngs=rngs)
        self.head = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, x):
        x = x[..., None]
        for layer in (self.conv_0, self.conv_1):
            x = nnx.max_pool(nnx.relu(layer(x)), (2, 2), (2, 2))
        return self.head(nnx.relu(self.dense_0(x.reshape(x.shape[0], -1))))


def own(pool):
    return cnn(pool, channels=(4, 6), hidden=(7,))


small_resnet = functools.partial(resnet, channels=(8, 16), groups=4)


def test_the_size_of_the_papers_network():
    params = jax.eval_shape(cnn(images((28, 28), classes=10)).init, jax.random.key(0)).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1_663_370


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (9, 11, 2)])
def test_outputs_and_gradients_are_those_of_flax(shape):
    pool = images(shape)
    problem, module = own(pool), Flax()
    params = problem.init(jax.random.key(0)).params
    theirs = module.init(jax.random.key(0), pool.x)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, theirs)

    def ours(params):
        return problem.apply(params, (), pool.x)[0]

    def flax(params):
        return module.apply({"params": params}, pool.x)

    np.testing.assert_allclose(ours(params), flax(params), rtol=1e-4, atol=1e-5)
    found, wanted = (jax.jit(jax.grad(lambda p, f=f: jnp.sum(jnp.sin(f(p)))))(params) for f in (ours, flax))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def federation(pool):
    return fh.from_index_lists(pool, None, np.split(np.arange(ROWS), [4, 12, 20]), test=0.0)


@pytest.mark.parametrize("model", [own, small_resnet], ids=["cnn", "resnet"])
def test_executors_agree_and_it_learns(model):
    pool = images()
    held, problem = federation(pool), model(pool)
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.05, batch_size=4, epochs=2))
    ends = []
    for executor in (fh.executors.looped(), fh.executors.vmapped(), fh.executors.chunked(3)):
        round_fn = fh.make_round(fh.sampling.everyone(), executor)
        state = fh.initial_state(algorithm, held, key=jax.random.key(0), round_fn=round_fn)
        run, losses = jax.jit(round_fn), []
        for _ in range(4):
            state, log = run(algorithm, state, held)
            losses.append(float(jnp.mean(log["info"]["loss"])))
        assert losses[-1] < losses[0]
        ends.append(state.server.params)
    for other in ends[1:]:
        for a, b in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(other)):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_users_own_network_gets_the_fast_path(kind):
    """Without a change of the model: the fast layout for one client, no grouped convolution for many."""
    pool = images()
    made = from_linen(Flax(), pool) if kind == "linen" else from_nnx(Nnx, pool)
    params = made.init(jax.random.key(0)).params

    def gradient(params):
        def total(p):
            return jnp.sum(made.apply(p, (), pool.x, jax.random.key(0), True)[0] ** 2)

        return jax.grad(total)(params)

    assert "optimization_barrier" in jax.jit(gradient).lower(params).as_text()
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    assert "stablehlo.convolution" not in jax.jit(jax.vmap(gradient)).lower(many).as_text()
    found = jax.jit(lambda p: made.apply(p, (), pool.x)[0])(params)
    np.testing.assert_allclose(found, Flax().apply({"params": params}, pool.x), rtol=1e-4, atol=1e-5)


class Grouped(linen.Module):
    """A layer that the fast convolution does not cover."""

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (3, 3), feature_group_count=2, name="depthwise")(x)
        return linen.Dense(3)(x.reshape(x.shape[0], -1))


class Transposed(linen.Module):
    """Another one."""

    @linen.compact
    def __call__(self, x):
        x = linen.ConvTranspose(2, (3, 3), name="up")(x)
        return linen.Dense(3)(x.reshape(x.shape[0], -1))


def test_what_has_no_fast_path_is_named():
    pool = images((4, 4, 2))
    with pytest.warns(UserWarning, match=r"depthwise of groups takes the slow path, got rows \[2, 4, 4, 2\]"):
        from_linen(Grouped(), pool)
    with pytest.warns(UserWarning, match="up takes the slow path"):
        from_linen(Transposed(), pool)


def test_parts_of_the_models():
    pool = images()
    problem = small_resnet(pool)
    paths = leaf_paths(problem.init(jax.random.key(0)).params)

    def chosen(selector):
        return {path for path in paths if selector(path)}

    assert chosen(head(problem)) == {"head/kernel", "head/bias"}
    assert chosen(norm(problem)) == {path for path in paths if "norm" in path}
    assert chosen(body(problem)) == set(paths) - chosen(head(problem))
    assert own(pool).facts.head == ("head",)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: cnn(fh.datasets.digits()), r"pool must hold images .* got features \[64\]"),
        (lambda: cnn(images(), channels=(4, 4, 4, 4)), "window must leave some of 8 x 8 images after 4 times"),
        (lambda: cnn(images(), kernel=0), "kernel must be >= 1"),
        (lambda: cnn(images(), activation="rely"), "activation must be one of"),
        (
            lambda: resnet(images(), channels=(6, 8)),
            r"groups must divide each of channels \[6, 8\], got 8",
        ),
        (lambda: resnet(images(), channels=()), "channels must have an entry"),
        (lambda: resnet(images(), blocks=0), "blocks must be >= 1"),
    ],
)
def test_bad_input(build, words):
    with pytest.raises(ValueError, match=words):
        build()
