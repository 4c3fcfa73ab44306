"""The quadratic bench against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.models import quadratic, quadratic_federation, quadratic_pool
from fedjax_het.pool import pool
from fedjax_het.problem import Model, full_gradient, full_loss, objective

N, D = 4, 3
loss_at = jax.jit(full_loss)


@jax.jit
def gradient_at(problem, model, data):
    return full_gradient(objective(problem), model, data, jax.random.key(0))[0]


@pytest.fixture
def functions():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(N, D, D))
    return roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(D), rng.normal(size=(N, D))


def client(federation, k, split="train"):
    return federation.data(split, federation.locate(split, jnp.int32(0), jnp.int32(k)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_client_holds_its_own_function(functions, split):
    A, a = functions
    with jax.enable_x64(True):
        federation = quadratic_federation(A, a)
        problem = quadratic(quadratic_pool(A, a))
        w = np.array([0.3, -1.0, 2.0])
        model = Model({"w": jnp.asarray(w)}, ())
        for k in range(N):
            data = client(federation, k, split)
            assert int(data.size) == 1
            expected = (w - a[k]) @ A[k] @ (w - a[k]) / 2
            np.testing.assert_allclose(loss_at(problem, model, data), expected, rtol=1e-12)
            grads = gradient_at(problem, model, data)
            np.testing.assert_allclose(grads["w"], A[k] @ (w - a[k]), rtol=1e-10)
            at_minimum = Model({"w": jnp.asarray(a[k])}, ())
            np.testing.assert_allclose(loss_at(problem, at_minimum, data), 0, atol=1e-12)
        np.testing.assert_allclose(federation.truth["minimiser"], a)


def test_linear_terms_and_constants(functions):
    A, b = functions
    c = np.arange(N)
    source = quadratic_pool(A, b=b, c=c)
    problem = quadratic(source)
    w = np.array([1.0, 2.0, -1.0])
    losses = problem.losses(problem.apply({"w": jnp.asarray(w)}, (), source.x)[0], source.y)
    expected = np.einsum("i,nij,j->n", w, A, w) / 2 - b @ w + c
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert "minimiser" not in quadratic_federation(A, b=b).truth


def test_the_hessian_is_A(functions):
    A, a = functions
    source = quadratic_pool(A, a)
    problem = quadratic(source)

    def f(w):
        return problem.losses(problem.apply({"w": w}, (), source.x)[0], source.y)[1]

    np.testing.assert_allclose(jax.jit(jax.jacfwd(jax.grad(f)))(jnp.ones(D)), A[1], rtol=1e-5)


def test_valid_is_empty(functions):
    federation = quadratic_federation(*functions)
    problem = quadratic(quadratic_pool(*functions))
    data = client(federation, 1, "valid")
    assert int(data.size) == 0
    assert float(loss_at(problem, problem.init(jax.random.key(0)), data)) == 0


def test_sizes_repeat_rows_without_changing_the_function(functions):
    A, a = functions
    problem = quadratic(quadratic_pool(A, a))
    federation = quadratic_federation(A, a, sizes=[2, 0, 1, 3])
    model = Model({"w": jnp.ones(D)}, ())
    assert federation.spec.capacity == (3, 0, 1)
    for k, size in enumerate([2, 0, 1, 3]):
        data = client(federation, k)
        assert int(data.size) == size
        expected = (1 - a[k]) @ A[k] @ (1 - a[k]) / 2 if size else 0
        np.testing.assert_allclose(loss_at(problem, model, data), expected, rtol=1e-4)


def test_start(functions):
    source = quadratic_pool(*functions)
    assert not quadratic(source).init(jax.random.key(0)).params["w"].any()
    problem = quadratic(source, start=[1, 2, 3])
    np.testing.assert_array_equal(problem.init(jax.random.key(0)).params["w"], [1, 2, 3])
    assert jax.tree.structure(problem) == jax.tree.structure(quadratic(source, start=np.array([1.0, 2.0, 3.0])))
    assert jax.tree.structure(problem) != jax.tree.structure(quadratic(source))


def test_convexity_is_a_fact_of_the_matrices(functions):
    A, a = functions
    assert quadratic(quadratic_pool(A, a)).facts.convex
    assert not quadratic(quadratic_pool(A - 50 * np.eye(D), a)).facts.convex


def test_trains_under_the_usual_strictness(functions):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        source = quadratic_pool(*functions)
        problem = quadratic(source)
        out, _ = problem.apply(*problem.init(jax.random.key(0)), source.x, jax.random.key(1), train=True)
        assert set(problem.metrics(out, source.y)) == {"loss"}


def test_refusals(functions):
    A, a = functions
    with pytest.raises(ValueError, match="got neither"):
        quadratic_pool(A)
    with pytest.raises(ValueError, match="got both"):
        quadratic_pool(A, a, b=a)
    with pytest.raises(ValueError, match="A must be symmetric"):
        quadratic_pool(A + np.triu(np.ones((D, D)), 1), a)
    with pytest.raises(ValueError, match=r"A must have shape \[N, d, d\], got \[3, 3\]"):
        quadratic_pool(A[0], a[0])
    with pytest.raises(ValueError, match=r"a must have shape \[4, 3\], got \[3\]"):
        quadratic_pool(A, a[0])
    with pytest.raises(ValueError, match="start must be 3 finite numbers"):
        quadratic(quadratic_pool(A, a), start=(1, 2))
    with pytest.raises(TypeError, match="start must be a number, got \\('1', '2', '3'\\): pass 3 numbers"):
        quadratic(quadratic_pool(A, a), start=("1", "2", "3"))
    with pytest.raises(TypeError, match=r"pool must be a Pool, got Federation: pass federation\.pool"):
        quadratic(quadratic_federation(A, a))
    with pytest.raises(ValueError, match="make it with quadratic_pool"):
        quadratic(pool(np.zeros((2, 3)), np.zeros(2), task="regression"))
    for sizes in ([1, 1], [0, 0, 0, 0], [1, 1, 1, -1], [1.0, 1.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="sizes must be 4 whole numbers"):
            quadratic_federation(A, a, sizes=sizes)


def test_pool_of_the_federation_is_the_pool(functions):
    federation, source = quadratic_federation(*functions), quadratic_pool(*functions)
    again = dataclasses.replace(source, x=federation.x, y=federation.y, spec=federation.spec.pool)
    assert jax.tree.structure(quadratic(again)) == jax.tree.structure(quadratic(source))
