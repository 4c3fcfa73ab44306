"""Domains: which rows are seen through which view, and in what proportions."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import pictures, rows_of, taken

import fedjax_het as fh
from fedjax_het.heterogeneity.feature import domains

HOST = {
    "identity": lambda x: x,
    "invert": lambda x: np.float32(1) - x,
    "negate": lambda x: -x,
    "mirror": lambda x: x[:, :, ::-1],
    "flip": lambda x: x[:, ::-1],
    "transpose": lambda x: x.swapaxes(1, 2),
}


def federation_of(shape, clients=3, rows=6, shared=False):
    x = pictures(np.random.default_rng(0), rows * clients, shape)
    parts = [np.arange(rows)] * clients if shared else np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, np.arange(rows * clients) % 2, parts, replacement=shared, test=0.0)


def views_of(federation, seen, client, names):
    """Which view each row of a client came through, int [n]."""
    before, after = taken(federation, client)[0], taken(seen, client)[0]
    same = np.stack([(HOST[name](before) == after).reshape(len(before), -1).all(1) for name in names])
    assert np.all(same.sum(0) == 1)
    return same.argmax(0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    names=st.sampled_from([["mirror"], ["invert", "identity"], ["transpose", "flip", "negate", "identity"]]),
    shape=st.sampled_from([(5, 5), (4, 4, 2)]),
    alpha=st.floats(0.01, 100),
    seed=st.integers(0, 9),
)
def test_every_row_comes_through_one_of_the_views(names, shape, alpha, seed):
    federation = federation_of(shape)
    seen = domains(federation, domains=names, alpha=alpha, seed=seed)
    mixture = np.asarray(seen.truth["mixture"])
    assert mixture.shape == (3, len(names))
    np.testing.assert_allclose(mixture.sum(1), 1, atol=1e-5)
    for client in range(3):
        views_of(federation, seen, client, names)


def test_in_the_proportions_that_are_given():
    names, rows = ["identity", "mirror", "invert"], 2000
    federation = federation_of((3, 3), clients=2, rows=rows)
    mixture = np.array([[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]])
    seen = domains(federation, domains=names, mixture=mixture)
    for client in range(2):
        share = np.bincount(views_of(federation, seen, client, names), minlength=3) / rows
        deviation = np.sqrt(mixture[client] * (1 - mixture[client]) / rows)
        assert np.all(np.abs(share - mixture[client]) <= 4 * deviation)


def test_the_view_belongs_to_the_client_and_the_row():
    names = ["identity", "invert"]
    federation = federation_of((4,), rows=400, shared=True)
    seen = domains(federation, domains=names, mixture=[[0.5, 0.5]] * 3)
    views = [views_of(federation, seen, client, names) for client in range(3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.mean(views[one] == views[other]) - 0.5) < 4 * 0.5 / np.sqrt(400)
    halves = fh.from_index_lists(federation.pool, None, [np.arange(400)] * 3, replacement=True, test=0.5)
    again = domains(halves, domains=names, mixture=[[0.5, 0.5]] * 3)
    for client in range(3):
        np.testing.assert_array_equal(
            taken(again, client, "test")[0], taken(seen, client)[0][rows_of(again, client, "test")]
        )


def test_a_view_of_one_mind():
    federation = federation_of((4, 4))
    for j, name in enumerate(HOST):
        seen = domains(federation, domains=list(HOST), mixture=np.eye(6)[[j] * 3])
        np.testing.assert_array_equal(taken(seen, 1)[0], HOST[name](taken(federation, 1)[0]))


def double(x):
    return 2 * x


def test_functions_and_clusters():
    federation = federation_of((3,))
    seen = domains(federation, domains=["identity", double], mixture=[[1, 0], [0, 1]], clusters=[0, 1, 1])
    for client, factor in enumerate([1, 2, 2]):
        np.testing.assert_array_equal(taken(seen, client)[0], factor * taken(federation, client)[0])
    shared = domains(federation, domains=["identity", double], alpha=1, clusters=2).truth
    assert len(np.unique(shared["mixture"], axis=0)) == 2


def test_small_concentrations_are_of_one_view():
    federation = federation_of((2,), clients=200, rows=1)
    for alpha, low, high in ((1e-3, 0.97, 1.0), (1e4, 0.5, 0.53)):
        most = np.asarray(
            domains(federation, domains=["identity", "invert"], alpha=alpha).truth["mixture"]
        ).max(1)
        assert low <= most.mean() <= high


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"domains": ["identity"]}, ValueError, "alpha or mixture must be given, one of them, got none"),
        ({"domains": [], "alpha": 1}, ValueError, "domains must list names or functions, got none"),
        ({"domains": "invert", "alpha": 1}, TypeError, "domains must list names or functions, got 'invert'"),
        ({"domains": [1], "alpha": 1}, TypeError, "got 1: the names are identity, invert"),
        (
            {"domains": ["mirorr"], "alpha": 1},
            ValueError,
            "domains must be one of the names.*did you mean 'mirror'",
        ),
        (
            {"domains": ["transpose"], "alpha": 1},
            ValueError,
            "got 'transpose' for images of 3 x 4: it is for square",
        ),
        ({"domains": [jnp.sum], "alpha": 1}, ValueError, "transforms must"),
        ({"domains": ["invert"], "alpha": 0}, ValueError, "alpha must be > 0, got 0"),
        (
            {"domains": ["invert"], "mixture": [[0.5]] * 2},
            ValueError,
            "mixture must have rows that add up to 1",
        ),
        ({"domains": ["invert"], "mixture": [[1, 0]] * 2}, ValueError, r"mixture must have shape \(2, 1\)"),
        ({"domains": ["invert", "flip"], "mixture": [[2, -1]] * 2}, ValueError, "mixture must be >= 0"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        domains(federation_of((3, 4), clients=2), **arguments)


def test_refuses_images_of_what_holds_none():
    with pytest.raises(ValueError, match=r"must hold images .*got rows of shape \(5,\)"):
        domains(federation_of((5,)), domains=["mirror"], alpha=1)
