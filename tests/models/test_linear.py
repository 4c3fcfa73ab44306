"""Linear models against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.assembly import assemble
from fedjax_het.federation import Batch
from fedjax_het.models import linear, softmax
from fedjax_het.pool import pool
from fedjax_het.problem import objective

ROWS = 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def regression(rng, targets=()):
    return pool(rng.normal(size=(ROWS, 2, 3)), rng.normal(size=(ROWS, *targets)), task="regression")


def labels(rng):
    return pool(rng.normal(size=(ROWS, 4)), np.array([0, 1, 2, 2, 1, 0]), num_classes=3)


def random_params(problem, rng):
    params = problem.init(jax.random.key(0)).params
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)


def batch_of(source, weight=None):
    weight = jnp.ones((ROWS,)) if weight is None else weight
    return Batch(source.x, source.y, weight, jnp.arange(ROWS))


def loss_of(problem, batch):
    return jax.jit(lambda params: objective(problem)(params, (), batch, jax.random.key(0))[0])


@pytest.mark.parametrize("targets", [(), (2,), (2, 2)])
def test_linear_value_and_gradient(rng, targets):
    with jax.enable_x64(True):
        source = regression(rng, targets)
        problem = linear(source, l2=0.1)
        params = random_params(problem, rng)
        value, grads = jax.value_and_grad(loss_of(problem, batch_of(source)))(params)
        x = np.asarray(source.x).reshape(ROWS, 6)
        y = np.asarray(source.y).reshape(ROWS, -1)
        kernel, bias = np.asarray(params["head"]["kernel"]), np.asarray(params["head"]["bias"])
        residual = x @ kernel + bias - y
        loss = (residual**2).sum() / 2 / ROWS
        np.testing.assert_allclose(value, loss + 0.05 * ((kernel**2).sum() + (bias**2).sum()), rtol=1e-12)
        expected = x.T @ residual / ROWS + 0.1 * kernel
        np.testing.assert_allclose(grads["head"]["kernel"], expected, rtol=1e-10)
        np.testing.assert_allclose(grads["head"]["bias"], residual.mean(0) + 0.1 * bias, rtol=1e-10)
        out, _ = problem.apply(params, (), source.x)
        assert out.shape == source.y.shape
        metrics = problem.metrics(out, source.y)
        np.testing.assert_allclose(metrics["squared_error"], 2 * metrics["loss"])
        np.testing.assert_allclose(metrics["loss"].mean(), loss)


def test_softmax_value_and_gradient(rng):
    with jax.enable_x64(True):
        source = labels(rng)
        problem = softmax(source)
        params = random_params(problem, rng)
        value, grads = jax.value_and_grad(loss_of(problem, batch_of(source)))(params)
        x, y = np.asarray(source.x), np.asarray(source.y)
        logits = x @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(value, -np.log(probabilities[np.arange(ROWS), y]).mean(), rtol=1e-12)
        error = probabilities - np.eye(3)[y]
        np.testing.assert_allclose(grads["head"]["kernel"], x.T @ error / ROWS, rtol=1e-10)
        np.testing.assert_allclose(grads["head"]["bias"], error.mean(0), rtol=1e-10)
        accuracy = problem.metrics(problem.apply(params, (), source.x)[0], source.y)["accuracy"]
        np.testing.assert_array_equal(accuracy, logits.argmax(1) == y)


def test_starts_at_zero_with_uniform_probabilities(rng):
    source = labels(rng)
    problem = softmax(source)
    model = problem.init(jax.random.key(3))
    assert all(not leaf.any() for leaf in jax.tree.leaves(model.params))
    losses = problem.losses(problem.apply(*model, source.x)[0], source.y)
    np.testing.assert_allclose(losses, np.log(3), rtol=1e-6)


def test_cross_entropy_stays_finite_at_huge_logits(rng):
    problem = softmax(labels(rng))
    out, y = jnp.array([[1e30, -1e30, 0.0], [-1e4, 1e4, 0.0]]), jnp.array([0, 0])
    losses, grads = problem.losses(out, y), jax.grad(lambda o: problem.losses(o, y).sum())(out)
    np.testing.assert_allclose(losses, [0, 2e4])
    assert np.isfinite(grads).all()


@pytest.mark.parametrize("make", [linear, softmax])
def test_masked_rows_do_not_leak(rng, make):
    source = regression(rng) if make is linear else labels(rng)
    problem = make(source)
    params = random_params(problem, rng)
    weight = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    clean = batch_of(source, weight)
    dirty = clean._replace(x=clean.x.at[jnp.array([2, 4, 5])].set(1e3))

    grads = [jax.grad(loss_of(problem, batch))(params) for batch in (clean, dirty)]
    jax.tree.map(np.testing.assert_array_equal, *grads)


@pytest.mark.parametrize("x64", [False, True])
def test_params_have_the_default_float_type(rng, x64):
    with jax.enable_x64(x64):
        source = regression(rng)
        problem = linear(source, l2=1)
        model = problem.init(jax.random.key(0))
        out, _ = problem.apply(*model, source.x)
        dtype = jnp.result_type(float)
        assert {leaf.dtype for leaf in jax.tree.leaves((model, out, problem.l2))} == {dtype}
        assert problem.losses(out, source.y).dtype == dtype


def test_without_bias(rng):
    assert set(linear(regression(rng), bias=False).init(jax.random.key(0)).params["head"]) == {"kernel"}


def test_second_derivative_is_the_covariance(rng):
    source = regression(rng)
    problem = linear(source, bias=False)
    params = random_params(problem, rng)
    f = loss_of(problem, batch_of(source))
    direction = random_params(problem, rng)
    product = jax.jvp(jax.grad(f), (params,), (direction,))[1]["head"]["kernel"]
    x = np.asarray(source.x).reshape(ROWS, 6)
    np.testing.assert_allclose(product, x.T @ x @ direction["head"]["kernel"] / ROWS, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [linear, softmax])
def test_equal_when_rebuilt(rng, make):
    source = regression(rng) if make is linear else labels(rng)
    structures = [jax.tree.structure(make(source, l2=value)) for value in (0.1, 0.2)]
    assert structures[0] == structures[1] and hash(structures[0]) == hash(structures[1])
    assert jax.tree.structure(make(source, bias=False, l2=0.1)) != structures[0]


def test_facts(rng):
    for problem in (linear(regression(rng)), softmax(labels(rng))):
        assert problem.facts.linear and problem.facts.convex and problem.facts.log_likelihood
        assert problem.facts.head == ("head",) and problem.facts.buffers == "none"


def test_refuses_the_wrong_task_and_a_negative_ridge(rng):
    with pytest.raises(ValueError, match="for least squares, got 'classification': use softmax"):
        linear(labels(rng))
    with pytest.raises(ValueError, match="for softmax regression, got 'regression': use linear"):
        softmax(regression(rng))
    with pytest.raises(ValueError, match="l2 must be >= 0, got -1: None leaves the term out"):
        softmax(labels(rng), l2=-1)


@pytest.mark.parametrize("make", [linear, softmax])
def test_refuses_what_is_no_pool(rng, make):
    federation = assemble(labels(rng), [[0], [1]])
    with pytest.raises(TypeError, match=r"pool must be a Pool, got Federation: pass federation\.pool"):
        make(federation)
    with pytest.raises(TypeError, match=r"pool must be a Pool, got tuple: build one with pool"):
        make((np.zeros((2, 1)), np.zeros(2, int)))
    with pytest.raises(TypeError, match="l2 must be a number, got '0': None leaves the term out"):
        make(regression(rng) if make is linear else labels(rng), l2="0")
