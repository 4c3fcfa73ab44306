"""The multilayer perceptron against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.assembly import assemble
from fedjax_het.federation import Batch
from fedjax_het.models import mlp, softmax
from fedjax_het.models.mlp import ACTIVATIONS
from fedjax_het.pool import pool
from fedjax_het.problem import objective

ROWS = 5


@pytest.fixture
def source():
    rng = np.random.default_rng(1)
    return pool(rng.normal(size=(ROWS, 2, 3)), np.array([0, 1, 2, 3, 0]), num_classes=4)


@pytest.fixture
def targets():
    rng = np.random.default_rng(2)
    return pool(rng.normal(size=(ROWS, 3)), rng.normal(size=(ROWS, 2)), task="regression")


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_output_against_numpy(source, activation):
    problem = mlp(source, hidden=(7, 5), activation=activation)
    params = jax.jit(problem.init)(jax.random.key(0)).params
    out, buffers = problem.apply(params, (), source.x)
    act = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}[activation]
    value = np.asarray(source.x).reshape(ROWS, 6)
    for name in ("dense_0", "dense_1"):
        value = act(value @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"]))
    value = value @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
    np.testing.assert_allclose(out, value, rtol=1e-5, atol=1e-6)
    assert buffers == ()


def test_gradient_against_finite_differences(targets):
    with jax.enable_x64(True):
        source = pool(np.asarray(targets.x), np.asarray(targets.y), task="regression")
        problem = mlp(source, hidden=(4,), activation="tanh", l2=0.3)
        params = jax.jit(problem.init)(jax.random.key(0)).params
        batch = Batch(source.x, source.y, jnp.ones((ROWS,)), jnp.arange(ROWS))

        @jax.jit
        def f(params):
            return objective(problem)(params, (), batch, jax.random.key(0))[0]

        direction = jax.jit(problem.init)(jax.random.key(1)).params
        slope = sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), jax.grad(f)(params), direction)))
        ahead, behind = (
            f(jax.tree.map(lambda p, d, s=sign: p + s * 1e-5 * d, params, direction)) for sign in (1, -1)
        )
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6)


def test_initial_variances():
    source = pool(np.zeros((1, 400)), np.zeros(1, int), num_classes=300)
    params = mlp(source, hidden=(300,)).init(jax.random.key(0)).params
    np.testing.assert_allclose(params["dense_0"]["kernel"].var(), 2 / 400, rtol=0.02)
    np.testing.assert_allclose(params["head"]["kernel"].var(), 1 / 300, rtol=0.02)
    assert not params["dense_0"]["bias"].any() and not params["head"]["bias"].any()


def test_layers_and_keys_draw_their_own_kernels(source):
    problem = mlp(source, hidden=(6, 6))
    models = jax.jit(jax.vmap(problem.init))(jax.random.split(jax.random.key(0), 3))
    kernels = models.params["dense_0"]["kernel"]
    assert kernels.shape == (3, 6, 6)
    assert not np.allclose(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], models.params["dense_1"]["kernel"][0])
    single = jax.jit(problem.init)(jax.random.split(jax.random.key(0), 3)[1])
    np.testing.assert_allclose(single.params["head"]["kernel"], models.params["head"]["kernel"][1], rtol=1e-6)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_gives_finite_gradients(source, activation):
    problem = mlp(source, hidden=(3,), activation=activation)
    batch = Batch(100 * source.x, source.y, jnp.ones((ROWS,)), jnp.arange(ROWS))
    params = jax.jit(problem.init)(jax.random.key(0)).params
    grads = jax.jit(jax.grad(lambda p: objective(problem)(p, (), batch, jax.random.key(0))[0]))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_regression_shape_and_metrics(targets):
    problem = mlp(targets)
    out, _ = problem.apply(*problem.init(jax.random.key(0)), targets.x)
    assert out.shape == (ROWS, 2)
    assert set(problem.metrics(out, targets.y)) == {"loss", "squared_error"}


def test_no_hidden_layer_is_softmax_regression(source):
    problem = mlp(source, hidden=())
    params = jax.jit(problem.init)(jax.random.key(0)).params
    assert set(params) == {"head"}
    np.testing.assert_allclose(
        problem.apply(params, (), source.x)[0], softmax(source).apply(params, (), source.x)[0]
    )


def test_type_under_x64(source):
    with jax.enable_x64(True):
        problem = mlp(source)
        model = jax.jit(problem.init)(jax.random.key(0))
        # Rows of a pool that was made in float32 still meet float64 parameters.
        with jax.numpy_dtype_promotion("strict"):
            out, _ = problem.apply(*model, source.x)
        assert {leaf.dtype for leaf in jax.tree.leaves((model, out))} == {jnp.dtype("float64")}


def test_equal_when_rebuilt(source):
    structure = jax.tree.structure(mlp(source))
    assert structure == jax.tree.structure(mlp(source)) == jax.tree.structure(mlp(source, hidden=[64]))
    assert structure != jax.tree.structure(mlp(source, activation="tanh"))
    assert mlp(source, l2=0.0).l2 is not None


def test_compiles_once_for_equal_problems(source):
    traces = []

    @jax.jit
    def run(problem, x):
        traces.append(None)
        return problem.apply(*problem.init(jax.random.key(0)), x)[0]

    for value in (0.1, 0.2):
        run(mlp(source, l2=value), source.x)
    assert len(traces) == 1


def test_refusals(source):
    with pytest.raises(ValueError, match=r"did you mean 'tanh'\?"):
        mlp(source, activation="tanhh")
    with pytest.raises(TypeError, match="hidden must be a sequence of whole numbers, got 64: pass a tuple"):
        mlp(source, hidden=64)
    with pytest.raises(ValueError, match="hidden must be >= 1, got 0: pass a tuple of widths"):
        mlp(source, hidden=(4, 0))
    with pytest.raises(TypeError, match="hidden must be a whole number, got '4': pass a tuple of widths"):
        mlp(source, hidden=("4",))
    with pytest.raises(ValueError, match="l2 must be >= 0, got -1: None leaves the term out"):
        mlp(source, l2=-1)
    with pytest.raises(TypeError, match=r"pool must be a Pool, got Federation: pass federation\.pool"):
        mlp(assemble(source, [[0]]))
    tokens = pool(np.zeros((2, 4), int), np.zeros((2, 4), int), task="tokens", num_classes=3)
    with pytest.raises(ValueError, match=r"for an MLP, got 'tokens': .*from_linen"):
        mlp(tokens)
