"""Quadratics of chosen constants: measured again from the stored rows, at random legal settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.models import quadratic, quadratics
from fedjax_het.problem import Model, full_gradient, objective

quick = settings(max_examples=60, derandomize=True, deadline=None)
NAMES = ("smoothness", "convexity", "dissimilarity", "hessian_dissimilarity")


def parts(federation):
    """p [N], A [N, d, d], b [N, d] and c [N] from the rows."""
    size = np.asarray(federation.train.size[0], float)
    y = np.asarray(federation.y, float)
    return size / size.sum(), np.asarray(federation.x, float), y[:, :-1], y[:, -1]


def measured(federation):
    """(L, mu, zeta_*, delta, w*), from nothing but the rows."""
    p, A, b, _ = parts(federation)
    mean = np.tensordot(p, A, 1)
    optimum = np.linalg.solve(mean, p @ b)
    gradient = A @ optimum - b
    spectrum = np.linalg.eigvalsh(A)
    zeta = np.sqrt(p @ np.sum(gradient**2, axis=1))
    delta = np.linalg.norm(A - mean, 2, axis=(1, 2)).max()
    return (spectrum.max(), spectrum.min(), zeta, delta), optimum


@st.composite
def legal(draw):
    """Arguments within the ranges that the docstring states; their ends come up often."""
    clients, dimension = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    high = 10 ** draw(st.floats(-2, 2))
    low = high * draw(st.sampled_from([1.0, 0.5, 0.03, 0.001]))
    sizes = draw(st.none() | st.lists(st.integers(1, 20), min_size=clients, max_size=clients))
    lightest = 1 / clients if sizes is None else min(sizes) / sum(sizes)
    most = (1 - lightest) * (high - low)
    least = 0.0
    if clients == 1:
        most, low = 0.0, high if dimension == 1 else low
    elif dimension == 1:
        least = most if clients == 2 else (high - low) / 2
    return {
        "clients": clients,
        "dimension": dimension,
        "smoothness": high,
        "convexity": low,
        "dissimilarity": 0.0 if clients == 1 else draw(st.sampled_from([0.0, 0.1, 1.0, 30.0])),
        "hessian_dissimilarity": least + (most - least) * draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])),
        "sizes": sizes,
        "seed": draw(st.integers(0, 1000)),
    }


@quick
@given(legal())
def test_constants_are_those_asked_for(arguments):
    with jax.enable_x64(True):
        federation = quadratics(**arguments)
        values, optimum = measured(federation)
        scale = arguments["smoothness"]
        for name, value in zip(NAMES, values):
            np.testing.assert_allclose(value, arguments[name], rtol=1e-6, atol=1e-13 * scale, err_msg=name)
            np.testing.assert_allclose(federation.truth[name], arguments[name], rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(optimum, federation.truth["optimum"], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(optimum), 1, rtol=1e-8)
        _, A, b, c = parts(federation)
        minimiser = np.asarray(federation.truth["minimiser"])
        np.testing.assert_allclose(np.einsum("nij,nj->ni", A, minimiser), b, rtol=1e-8, atol=1e-9 * (1 + scale))
        own = np.einsum("ni,nij,nj->n", minimiser, A, minimiser) / 2
        np.testing.assert_allclose(c, own, rtol=1e-7, atol=1e-9 * (1 + scale))


@quick
@given(legal())
def test_constants_in_single_precision(arguments):
    values, _ = measured(quadratics(**arguments))
    scale = arguments["smoothness"]
    error = [scale, scale, scale + arguments["dissimilarity"], scale]
    for name, value, unit in zip(NAMES, values, error):
        assert abs(value - arguments[name]) < 2e-7 * unit, name


def test_gradients_of_the_library_at_the_optimum(x64):
    sizes = [1, 3, 2, 5]
    federation = quadratics(4, 3, dissimilarity=2.0, hessian_dissimilarity=0.3, sizes=sizes, seed=1)
    problem = quadratic(federation.pool)
    model = Model({"w": federation.truth["optimum"]}, ())
    gradients = []
    for k in range(4):
        data = federation.data("train", federation.locate("train", jnp.int32(0), jnp.int32(k)))
        assert int(data.size) == sizes[k]
        gradients.append(full_gradient(objective(problem), model, data, jax.random.key(0))[0]["w"])
    p = np.array(sizes) / 11
    np.testing.assert_allclose(p @ np.array(gradients), 0, atol=1e-12)
    np.testing.assert_allclose(p @ np.sum(np.square(gradients), axis=1), 4, rtol=1e-10)


def test_matrices_do_not_commute_and_all_differ(x64):
    matrices = np.asarray(quadratics(5, 4, hessian_dissimilarity=0.3).x)
    for i in range(5):
        for j in range(i):
            swapped = matrices[i] @ matrices[j] - matrices[j] @ matrices[i]
            assert np.linalg.norm(swapped) > 1e-4
            assert np.linalg.norm(matrices[i] - matrices[j]) > 1e-2


def test_like_hessians_and_like_minimisers(x64):
    like = quadratics(4, 3, hessian_dissimilarity=0.0)
    assert np.ptp(np.asarray(like.x), axis=0).max() == 0
    one = quadratics(4, 3, dissimilarity=0.0)
    np.testing.assert_allclose(one.truth["minimiser"], np.tile(one.truth["optimum"], (4, 1)), rtol=1e-12)
    far = quadratics(4, 3, distance=7.0)
    np.testing.assert_allclose(np.linalg.norm(far.truth["optimum"]), 7, rtol=1e-12)


def test_seeds():
    same = [quadratics(seed=1), quadratics(seed=1)]
    for a, b in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(quadratics(seed=2).x, same[0].x)
    sized = quadratics(3, 2, sizes=np.array([2, 1, 1]))
    assert sized.train.size[0].tolist() == [2, 1, 1]


def test_a_bound_computed_in_floats_is_legal():
    for clients in (2, 3, 7):
        most = (0.7 - 0.1) - (0.7 - 0.1) / clients
        federation = quadratics(clients, 2, smoothness=0.7, convexity=0.1, hessian_dissimilarity=most)
        np.testing.assert_allclose(measured(federation)[0][3], most, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"smoothness": 0}, ValueError, "smoothness must be > 0.*, got 0: it is the largest curvature"),
        ({"convexity": 0}, ValueError, "convexity must be > 0.*, got 0: it is the smallest curvature"),
        ({"convexity": 2}, ValueError, "convexity must be <= smoothness = 1, got 2: no curvature"),
        ({"dissimilarity": -1}, ValueError, "dissimilarity must be >= 0, got -1: 0 for one minimiser"),
        ({"distance": -1}, ValueError, "distance must be >= 0, got -1: it is the distance"),
        (
            {"hessian_dissimilarity": 0.9},
            ValueError,
            "hessian_dissimilarity must be >= 0 and <= 0.81 for clients = 10, dimension = 5 and curvatures in "
            "\\[0.1, 1\\], got 0.9: take one in the range",
        ),
        (
            {"clients": 3, "dimension": 1, "hessian_dissimilarity": 0.2},
            ValueError,
            "hessian_dissimilarity must be >= 0.45 and <= 0.6 for clients = 3, dimension = 1 and",
        ),
        (
            {"clients": 2, "dimension": 1},
            ValueError,
            "hessian_dissimilarity must be >= 0.45 and <= 0.45 for clients = 2, dimension = 1 and",
        ),
        (
            {"clients": 2, "sizes": [1, 9], "hessian_dissimilarity": 0.82},
            ValueError,
            "hessian_dissimilarity must be >= 0 and <= 0.81 for clients = 2, dimension = 5 and",
        ),
        ({"clients": 1}, ValueError, "dissimilarity must be 0 for one client, got 1: its gradient"),
        (
            {"clients": 1, "dissimilarity": 0, "hessian_dissimilarity": 0.1},
            ValueError,
            "hessian_dissimilarity must be >= 0 and <= 0 for clients = 1, dimension = 5 and",
        ),
        (
            {"clients": 1, "dimension": 1, "dissimilarity": 0},
            ValueError,
            "convexity must be 1 for one client of dimension 1, got 0.1: it has one curvature",
        ),
        ({"clients": 2, "sizes": [1]}, ValueError, "sizes must list 2 clients, got \\[1\\]: pass one size"),
        ({"clients": 2, "sizes": [1, 0]}, ValueError, "sizes must be >= 1, got 0: a client without rows"),
        ({"dimension": 1.0}, TypeError, "dimension must be a whole number, got 1.0: it is the number"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        quadratics(**arguments)
