"""Clients in the plane: distances are those of their labels, features and features within labels."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import label_counts
from fedjax_het.heterogeneity.distance import hellinger
from fedjax_het.plots import client_map
from fedjax_het.plots.directions import leading
from fedjax_het.plots.embedding import in_the_plane
from fedjax_het.plots.evidence import Evidence, applies, evidence
from plots.dealt import federation, told
from plots.drawn import caption, key_words


def dealt(classes: int = 3, clients: int = 12, rows: int = 40, seed: int = 0) -> fh.Federation:
    """Clients with class shares of their own."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([rng.choice(classes, rows, p=rng.dirichlet([0.5] * classes)) for _ in range(clients)])
    x = rng.normal(size=(len(y), 6)).astype(np.float32) + 3 * np.eye(classes, 6, dtype=np.float32)[y]
    lists = np.split(np.arange(len(y)), clients)
    return fh.from_index_lists(fh.pool(x, y, num_classes=classes), None, lists, test=0.0)


def moved(x: jnp.ndarray, y: jnp.ndarray, by: jnp.ndarray, row: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Features shifted by a vector of the client's."""
    return x + by.astype(x.dtype)[None], y


def shifted(source: fh.Federation, by: np.ndarray) -> fh.Federation:
    """Client k's features moved by by[k]."""
    return dataclasses.replace(source, transforms=(fh.Transform(jnp.asarray(by[None], jnp.float32), moved),))


def dots(figure: object, panel: int = 0) -> np.ndarray:
    """All dots of a panel, [n, 2]."""
    return np.concatenate([np.asarray(c.get_offsets()) for c in figure.axes[panel].collections])  # pyright: ignore


def test_distances_by_labels_are_hellingers() -> None:
    source = dealt(classes=3)
    counts = label_counts(source)
    shares = counts / counts.sum(1, keepdims=True)
    (found,) = evidence(source, ["labels"], np.arange(12), split="train", phase=0)
    distance = np.linalg.norm(found.values[:, None] - found.values[None], axis=-1)
    np.testing.assert_allclose(distance, hellinger(shares[:, None], shares[None]), atol=1e-12)
    np.testing.assert_allclose((found.chance**2).sum(1), 0.5)


def test_a_plane_holds_all_of_two_dimensions() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(9, 2)) @ rng.normal(size=(2, 7))
    place, share, ring = in_the_plane(Evidence(flat, np.zeros_like(flat)), np.full(9, 5))
    distance = np.linalg.norm(place[:, None] - place[None], axis=-1)
    np.testing.assert_allclose(distance, np.linalg.norm(flat[:, None] - flat[None], axis=-1), atol=1e-9)
    assert share == pytest.approx(1)
    assert ring == pytest.approx(0, abs=1e-9)
    tall = in_the_plane(Evidence(flat.T, flat.T), np.full(7, 5))
    np.testing.assert_allclose(np.hypot(*tall[0].T).max(), tall[2])


def test_leading_directions_are_those_of_the_whole_decomposition() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 30)) * 0.7 ** np.arange(30)
    axes = leading(z, 4)
    right = np.linalg.svd(z, full_matrices=False)[2][:4].T
    np.testing.assert_allclose(np.abs(np.sum(axes * right, axis=0)), 1, atol=1e-6)
    assert leading(z[:1], 4).shape == (30, 1)


def test_distances_by_features_are_those_of_the_means() -> None:
    by = np.zeros((12, 6))
    by[6:, 0] = 40
    source = shifted(dealt(), by)
    (found,) = evidence(source, ["features"], np.arange(12), split="train", phase=0)
    x = np.asarray(source.x) + np.repeat(by, 40, 0)
    z = (x - x.mean(0)) / x.std(0)
    mean = z.reshape(12, 40, -1).mean(1) / np.sqrt((z**2).sum(1).mean())
    distance = np.linalg.norm(found.values[:, None] - found.values[None], axis=-1)
    np.testing.assert_allclose(distance, np.linalg.norm(mean[:, None] - mean[None], axis=-1), atol=1e-4)


def test_each_kind_of_heterogeneity_leaves_the_ring_where_it_should() -> None:
    def outside(source: fh.Federation) -> list[bool]:
        rows = np.bincount(np.repeat(np.arange(40), 50))
        kinds = ["labels", "features", "both"]
        found = evidence(source, kinds, np.arange(40), split="train", phase=0)
        planes = [in_the_plane(one, rows) for one in found]
        return [bool(np.median(np.hypot(*place.T)) > ring) for place, _, ring in planes]

    even = federation((50,) * 40, 5, shape=(8,))
    rng = np.random.default_rng(1)
    x = np.asarray(even.x) + 4 * np.eye(5, 8)[np.asarray(even.y)]
    even = dataclasses.replace(even, x=jnp.asarray(x, jnp.float32))
    assert outside(even) == [False, False, False]
    assert outside(dealt(classes=5, clients=40, rows=50))[::2] == [True, False]
    assert outside(shifted(even, 3 * rng.normal(size=(40, 8)))) == [False, True, True]
    renamed = fh.heterogeneity.concept.permute(even, clusters=2)
    assert outside(renamed) == [False, False, True]


def test_in_a_regression_slopes_are_compared() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 100, 5))
    slope = np.where(np.arange(20)[:, None] % 2, 1, -1) * np.array([1, 0, 0, 2, 0])
    y = np.einsum("knd,kd->kn", x, slope)
    source = fh.from_clients(list(zip(x, y)), task="regression", test=0.0)
    assert [applies(source, kind) for kind in ("labels", "features", "both")] == [False, True, True]
    (found,) = evidence(source, ["both"], np.arange(20), split="train", phase=0)
    place, _, ring = in_the_plane(found, np.full(20, 100))
    assert (np.abs(place[:, 0]) > ring).all()
    assert (np.sign(place[0::2, 0]) == -np.sign(place[1::2, 0])).all()


def test_all_that_applies_is_drawn_of_all_that_hold_rows() -> None:
    figure = client_map(federation((6, 0, 12, 9)))
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["by labels: P(y)", "by features: P(x)", "by features within labels: P(x | y)"]
    assert len(dots(figure)) == 3
    assert "1 clients without rows" in caption(figure)
    assert len(client_map(federation((6, 9)), by="labels").axes) == 1


def test_colours_say_what_was_done() -> None:
    source = federation((5,) * 6)
    assert key_words(client_map(told(source, cluster=np.array([7, 7, 2, 2, 3, 3])), by="labels")) == [
        "2",
        "3",
        "7",
    ]
    angle = np.linspace(0, 50, 6)
    figure = client_map(told(source, angle=angle), by="features")
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), angle)
    assert figure.axes[1].get_ylabel() == "angle (°)"
    figure = client_map(federation((5, 8, 30)), by="labels", colour="size")
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), [5, 8, 30])
    assert key_words(client_map(dealt(), by="labels", colour="class")) == ["0", "1", "2"]


@pytest.mark.parametrize(("clients", "classes"), [(2, 1), (5, 2), (40, 20), (10_000, 10)])
def test_every_size_of_federation_is_drawn(clients: int, classes: int) -> None:
    figure = client_map(federation((3,) * clients, classes))
    kinds = 1 if classes == 1 else 3
    assert len(dots(figure)) == clients
    assert sum("P(" in axes.get_title("left") for axes in figure.axes) == kinds
    assert all(np.isfinite(dots(figure, panel)).all() for panel in range(kinds))


def test_the_same_federation_gives_the_same_picture() -> None:
    first, second = (dots(client_map(dealt(), by="features")) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_bad_input_is_named() -> None:
    source = federation()
    with pytest.raises(TypeError, match="must be a Federation"):
        client_map(np.ones((3, 4)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="by must be one of"):
        client_map(source, by="label")
    with pytest.raises(ValueError, match="2 or more clients with rows"):
        client_map(federation((6, 0)))
    with pytest.raises(ValueError, match="colour must be one of"):
        client_map(source, colour="cluster")
    regression = fh.from_clients([(np.ones((4, 1)), np.ones(4))] * 2, task="regression", test=0.0)
    with pytest.raises(ValueError, match="has no such rows"):
        client_map(regression, by="labels")
