"""Flax modules as problems, linen and NNX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from fedjax_het.assembly import assemble
from fedjax_het.federation import Batch
from fedjax_het.models import from_linen, from_nnx, mlp, norm, select
from fedjax_het.models.losses import squared
from fedjax_het.pool import pool
from fedjax_het.problem import objective

pytestmark = pytest.mark.smoke

ROWS, WIDTH, CLASSES = 8, 16, 3


class LinenNet(linen.Module):
    """Dense, BatchNorm and Dropout, which one argument switches."""

    rate: float = 0.5

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Dense(WIDTH, name="dense_0")(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="scaler")(x)
        x = linen.Dropout(self.rate, deterministic=not train)(linen.relu(x))
        return linen.Dense(CLASSES, name="head")(x)


class LinenPlain(linen.Module):
    """The package's own MLP in linen, with other numbers of outputs on request."""

    outputs: int = CLASSES
    widths: tuple = (4,)

    @linen.compact
    def __call__(self, x):
        for i, width in enumerate(self.widths):
            x = linen.relu(linen.Dense(width, name=f"dense_{i}")(x))
        return linen.Dense(self.outputs, name="head")(x)


class LinenSwitches(linen.Module):
    """Two separate switches."""

    @linen.compact
    def __call__(self, x, *, deterministic, use_running_average):
        x = linen.BatchNorm(use_running_average=use_running_average)(x)
        return linen.Dense(CLASSES)(linen.Dropout(0.5)(x, deterministic=deterministic))


class NnxNet(nnx.Module):
    """The same layers as `LinenNet`, with two dropouts."""

    def __init__(self, inputs, rate=0.5, *, rngs):
        self.dense_0 = nnx.Linear(inputs, WIDTH, rngs=rngs)
        self.scaler = nnx.BatchNorm(WIDTH, momentum=0.9, rngs=rngs)
        self.first = nnx.Dropout(rate, rngs=rngs)
        self.second = nnx.Dropout(rate, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.second(self.first(nnx.relu(self.scaler(self.dense_0(x))))))


class NnxPlain(nnx.Module):
    """Layers in a list."""

    def __init__(self, inputs, outputs=CLASSES, *, rngs):
        self.layers = nnx.List([nnx.Linear(inputs, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.head = nnx.Linear(4, outputs, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.head(x)


class NnxDropouts(nnx.Module):
    """Ones through two dropouts: shows their masks."""

    def __init__(self, *, rngs):
        self.scale = nnx.Param(jnp.ones(()))
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        ones = jnp.ones((x.shape[0], 64)) * self.scale[...]
        return jnp.stack([self.first(ones), self.second(ones)], axis=1)


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    return pool(rng.normal(size=(ROWS, 5)) + 1, rng.integers(CLASSES, size=ROWS), num_classes=CLASSES)


def build(kind, source, **options):
    if kind == "linen":
        return from_linen(LinenNet(), source, **options)
    return from_nnx(functools.partial(NnxNet, 5), source, **options)


def plain(kind, source, outputs=CLASSES, **options):
    if kind == "linen":
        return from_linen(LinenPlain(outputs), source, **options)
    return from_nnx(functools.partial(NnxPlain, 5, outputs), source, **options)


def rows(source):
    return Batch(source.x, source.y, jnp.ones((ROWS,)), jnp.arange(ROWS))


both = pytest.mark.parametrize("kind", ["linen", "nnx"])


def test_linen_matches_the_packages_own_mlp(source):
    params = jax.jit(mlp(source, hidden=(4,)).init)(jax.random.key(0)).params
    expected, _ = mlp(source, hidden=(4,)).apply(params, (), source.x)
    out, buffers = plain("linen", source).apply(params, (), source.x)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    assert buffers == ()


def test_nnx_paths_and_values(source):
    problem = plain("nnx", source, head=("head",))
    params = jax.jit(problem.init)(jax.random.key(0)).params
    value = np.asarray(source.x)
    for layer in (params["layers"][0], params["layers"][1]):
        value = np.maximum(value @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), 0)
    value = value @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
    np.testing.assert_allclose(problem.apply(params, (), source.x)[0], value, rtol=1e-5, atol=1e-6)
    assert problem.facts.head == ("head",) and problem.facts.buffers == "none"


@both
def test_init_is_a_pure_function_of_the_key(kind, source):
    problem = build(kind, source, buffers="local")
    split = jax.random.split(jax.random.key(0), 3)
    many = jax.jit(jax.vmap(problem.init))(split)
    one = jax.jit(problem.init)(split[1])
    kernels = many.params["dense_0"]["kernel"]
    assert kernels.shape == (3, 5, WIDTH) and not np.allclose(kernels[0], kernels[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-6), many, one)


@both
def test_buffers_need_a_policy(kind, source):
    name = {"linen": "batch_stats", "nnx": "BatchStat"}[kind]
    with pytest.raises(ValueError, match=f"'averaged' or 'local' for a module with {name}, got 'refused'"):
        build(kind, source)
    with pytest.raises(ValueError, match="buffers must be one of the names below, got 'locals': did you"):
        build(kind, source, buffers="locals")
    for policy in ("averaged", "local"):
        assert build(kind, source, buffers=policy).facts.buffers == policy
        assert plain(kind, source, buffers=policy).facts.buffers == "none"


@both
def test_batch_statistics(kind, source):
    problem = build(kind, source, buffers="averaged")
    model = jax.jit(problem.init)(jax.random.key(0))
    _, kept = problem.apply(*model, source.x)
    jax.tree.map(np.testing.assert_array_equal, kept, model.buffers)
    _, new = jax.jit(lambda *a: problem.apply(*a, train=True))(*model, source.x, jax.random.key(1))
    assert jax.tree.structure(new) == jax.tree.structure(model.buffers)
    layer = model.params["dense_0"]
    hidden = np.asarray(source.x) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    stats = new["batch_stats"]["scaler"] if kind == "linen" else new["scaler"]
    np.testing.assert_allclose(stats["mean"], 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * hidden.var(0), rtol=1e-4)


@both
def test_dropout_needs_training_and_a_key(kind, source):
    problem = build(kind, source, buffers="local")
    model = jax.jit(problem.init)(jax.random.key(0))

    @functools.partial(jax.jit, static_argnames="train")
    def run(key, train):
        return problem.apply(*model, source.x, key, train=train)[0]

    first, second = jax.random.key(1), jax.random.key(2)
    np.testing.assert_array_equal(run(first, True), run(first, True))
    assert not np.allclose(run(first, True), run(second, True))
    np.testing.assert_array_equal(run(first, False), run(second, False))
    np.testing.assert_array_equal(run(None, False), run(second, False))
    # Without a key the batch's statistics are used, but nothing is dropped.
    twice = [run(None, True) for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    assert not np.allclose(twice[0], run(None, False)) and not np.allclose(twice[0], run(first, True))


def test_nnx_dropouts_draw_apart(source):
    problem = from_nnx(NnxDropouts, source, losses=lambda out, y: out.mean(axis=(1, 2)))
    out, _ = problem.apply(*problem.init(jax.random.key(0)), source.x, jax.random.key(1), train=True)
    masks = np.asarray(out) > 0
    np.testing.assert_allclose(masks.mean(axis=(0, 2)), 0.5, atol=0.15)
    assert not np.array_equal(masks[:, 0], masks[:, 1])
    np.testing.assert_array_equal(problem.apply(*problem.init(jax.random.key(0)), source.x)[0], 1)


def test_linen_separate_switches(source):
    problem = from_linen(LinenSwitches(), source, buffers="local")
    model = jax.jit(problem.init)(jax.random.key(0))
    out, new = problem.apply(*model, source.x, train=True)
    np.testing.assert_allclose(new["batch_stats"]["BatchNorm_0"]["mean"], 0.01 * source.x.mean(0), rtol=1e-4)
    assert not np.allclose(out, problem.apply(*model, source.x, jax.random.key(0), train=True)[0])


@both
def test_trains_under_jit_and_vmap_with_the_usual_strictness(kind, source):
    problem = build(kind, source, buffers="local", l2=1e-3)

    @jax.jit
    @jax.vmap
    def train(key):
        model = problem.init(key)

        def step(carry, i):
            params, buffers = carry
            gradient = jax.value_and_grad(objective(problem), has_aux=True)
            (value, aux), grads = gradient(params, buffers, rows(source), jax.random.fold_in(key, i))
            return (jax.tree.map(lambda p, g: p - 0.3 * g, params, grads), aux.buffers), value

        start = (model.params, model.buffers)
        (params, buffers), losses = jax.lax.scan(step, start, jnp.arange(60))
        assert jax.tree.map(jnp.shape, buffers) == jax.tree.map(jnp.shape, model.buffers)
        return losses, problem.losses(problem.apply(params, buffers, source.x)[0], source.y).mean()

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"), jax.checking_leaks():
        losses, final = train(jax.random.split(jax.random.key(0), 2))
    assert np.isfinite(losses).all()
    assert (np.asarray(losses)[:, -10:].mean(1) < 0.7 * np.asarray(losses)[:, :3].mean(1)).all()
    assert (np.asarray(final) < 0.6).all()


@both
def test_types_under_x64(kind, source):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        source = pool(np.asarray(source.x, np.float64), np.asarray(source.y))
        problem = build(kind, source, buffers="averaged")
        model = jax.jit(problem.init)(jax.random.key(0))
        out, new = problem.apply(*model, source.x, jax.random.key(1), train=True)
        assert {leaf.dtype for leaf in jax.tree.leaves((model, out, new))} == {jnp.dtype("float64")}


@both
def test_equal_when_rebuilt(kind, source):
    structures = [jax.tree.structure(build(kind, source, buffers="local", l2=v)) for v in (0.1, 0.2)]
    assert structures[0] == structures[1] and hash(structures[0]) == hash(structures[1])
    assert structures[0] != jax.tree.structure(build(kind, source, buffers="averaged", l2=0.1))
    assert jax.tree.structure(plain(kind, source)) == jax.tree.structure(plain(kind, source))


@both
def test_normalisation_layers_are_found_by_type(kind, source):
    problem = build(kind, source, buffers="local")
    assert problem.facts.norm == ("scaler",)
    first, _ = select(jax.eval_shape(problem.init, jax.random.key(0)).params, norm(problem))
    assert len(jax.tree.leaves(first)) == 2
    assert build(kind, source, buffers="local", norm="dense_0").facts.norm == ("dense_0",)


@both
def test_outputs_must_fit_the_task(kind, source):
    wanted = r"must be \[B, 3\] for task 'classification' of 'pool', got \[B, 4\]: make the last layer 3 wide"
    with pytest.raises(ValueError, match=wanted):
        plain(kind, source, 4)
    targets = pool(np.asarray(source.x), np.zeros(ROWS), task="regression")
    with pytest.raises(ValueError, match=r"must be \[B\] for .*, got \[B, 1\]: drop the last axis"):
        plain(kind, targets, 1)
    with pytest.raises(ValueError, match=r"must be \[B\] for .*, got \[B, 2\]: make the module's output"):
        plain(kind, targets, 2)
    column = pool(np.asarray(source.x), np.zeros((ROWS, 1)), task="regression")
    assert plain(kind, column, 1).losses is squared


@both
def test_heads_must_exist(kind, source):
    with pytest.raises(ValueError, match="head must name parts of the module, got 'top': the leaves are "):
        plain(kind, source, head=("top",))
    assert plain(kind, source, head="head").facts.head == ("head",)


@both
def test_losses_of_the_users_own(kind, source):
    def margin(out, y):
        return jnp.maximum(0, 1 - out[jnp.arange(y.shape[0]), y])

    problem = plain(kind, source, losses=margin)
    assert not problem.facts.log_likelihood and plain(kind, source).facts.log_likelihood
    out, _ = problem.apply(*problem.init(jax.random.key(0)), source.x)
    np.testing.assert_array_equal(problem.metrics(out, source.y)["loss"], margin(out, source.y))
    with pytest.raises(ValueError, match=r"losses must give one number a row, \[B\], got shape \[\]"):
        plain(kind, source, losses=lambda out, y: out.mean())


def test_tokens(source):
    class Letters(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(7)(linen.Embed(7, 4)(x))

    text = np.arange(24).reshape(4, 6) % 7
    letters = pool(text, (text + 1) % 7, task="tokens", num_classes=7)
    problem = from_linen(Letters(), letters)
    out, _ = problem.apply(*problem.init(jax.random.key(0)), letters.x)
    assert out.shape == (4, 6, 7)
    metrics = problem.metrics(out, letters.y)
    log = np.asarray(jax.nn.log_softmax(out))
    expected = -np.take_along_axis(log, np.asarray(letters.y)[..., None], 2)[..., 0].mean(1)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], (log.argmax(2) == letters.y).mean(1), rtol=1e-6)


def test_what_is_not_a_module(source):
    with pytest.raises(TypeError, match=r"module must be a flax\.linen module, got "):
        from_linen(NnxPlain, source)
    with pytest.raises(TypeError, match="module must be hashable, got LinenPlain"):
        from_linen(LinenPlain(CLASSES, [3, 4]), source)
    with pytest.raises(TypeError, match=r"builds the module, got NnxPlain: pass functools\.partial"):
        from_nnx(NnxPlain(5, rngs=nnx.Rngs(0)), source)
    with pytest.raises(TypeError, match="factory must be hashable"):
        from_nnx(functools.partial(NnxPlain, [5]), source)
    with pytest.raises(TypeError, match=r"factory must return an nnx\.Module, got 5"):
        from_nnx(lambda rngs: 5, source)


def test_fillers_stay_out_of_linen_batch_statistics():
    """A batch with fillers has the loss, gradient and statistics of the batch without them."""

    class Normed(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            x = linen.BatchNorm(use_running_average=not train, momentum=0.5)(linen.Dense(4)(x))
            return linen.Dense(3)(linen.relu(x))

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 6)).astype(np.float32), rng.integers(0, 3, 5)
    problem = from_linen(Normed(), pool(x, y, num_classes=3), buffers="averaged")
    assert problem.facts.masked
    params, buffers = problem.init(jax.random.key(0))
    x, y = jnp.asarray(x), jnp.asarray(y, jnp.int32)
    weight = jnp.asarray([1, 1, 1, 0, 0], jnp.float32)
    place = jnp.arange(5, dtype=jnp.int32)
    whole, part = Batch(x, y, weight, place), Batch(x[:3], y[:3], weight[:3], place[:3])
    f = jax.value_and_grad(objective(problem), has_aux=True)
    for a, b in zip(
        jax.tree.leaves(f(params, buffers, whole, None)), jax.tree.leaves(f(params, buffers, part, None))
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    nobody = Batch(x, y, jnp.zeros_like(weight), place)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(f(params, buffers, nobody, None)))


@pytest.mark.parametrize("make", [from_linen, from_nnx])
def test_refuses_what_is_no_pool(make):
    module = LinenPlain() if make is from_linen else functools.partial(nnx.Linear, 2, CLASSES)
    federation = assemble(pool(np.zeros((2, 2)), np.zeros(2, int), num_classes=CLASSES), [[0], [1]])
    with pytest.raises(TypeError, match=r"pool must be a Pool, got Federation: pass federation\.pool"):
        make(module, federation)
    with pytest.raises(ValueError, match="l2 must be >= 0, got -1: None leaves the term out"):
        make(module, federation.pool, l2=-1)
