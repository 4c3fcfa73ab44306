"""Labels and sizes: what is drawn is what clients hold."""

from __future__ import annotations

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.plots import client_sizes, label_counts, label_distribution
from fedjax_het.plots.order import by_similarity
from plots.dealt import told
from plots.drawn import caption


def split_pool(sizes: tuple[int, ...] = (6, 0, 12), classes: int = 3, **options: object) -> fh.Federation:
    """Clients of these sizes, labels going round."""
    y = np.arange(sum(sizes)) % classes
    x = np.ones((len(y), 2), np.float32)
    lists = np.split(np.arange(len(y)), np.cumsum(sizes)[:-1])
    return fh.from_index_lists(fh.pool(x, y, num_classes=classes), None, lists, test=0.0, **options)  # pyright: ignore


def swapped(
    x: jnp.ndarray, y: jnp.ndarray, turn: jnp.ndarray, row: jnp.ndarray
) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Labels moved on by `turn`."""
    return x, (y + turn) % 3


def test_labels_are_counted() -> None:
    np.testing.assert_array_equal(label_counts(split_pool()), [[2, 2, 2], [0, 0, 0], [4, 4, 4]])
    federation = split_pool((2, 1), 3)
    np.testing.assert_array_equal(label_counts(federation), [[1, 1, 0], [0, 0, 1]])


def test_labels_are_counted_as_the_transforms_leave_them() -> None:
    turned = fh.Transform(jnp.asarray([[0, 1]], jnp.int32), swapped)
    federation = split_pool((2, 1), 3)
    federation = dataclasses.replace(federation, transforms=(turned,))
    np.testing.assert_array_equal(label_counts(federation), [[1, 1, 0], [1, 0, 0]])


def test_areas_of_bubbles_are_counts() -> None:
    counts = np.array([[4, 0], [1, 2]])
    figure = label_distribution(counts)
    (dots,) = figure.axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [[0, 0], [1, 0], [1, 1]])
    areas = np.asarray(dots.get_sizes())
    np.testing.assert_allclose(areas / areas[0], [1, 0.25, 0.5])
    assert "largest circle is 4 rows" in caption(figure)


def test_many_clients_are_a_heat_map_of_their_shares() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(50, rng.dirichlet([0.2] * 5), 80)
    counts[7] = 0
    figure = label_distribution(counts)
    shares = np.asarray(figure.axes[0].images[0].get_array()).T
    expected = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(shares[np.lexsort(shares.T)], expected[np.lexsort(expected.T)])
    np.testing.assert_allclose(shares[-1], 0)
    assert "1 hold none" in caption(figure)


def test_alike_clients_are_neighbours() -> None:
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(4), 25))
    shares = np.stack([rng.dirichlet(60 * np.roll([0.7, 0.2, 0.05, 0.05], k)) for k in kind])
    order = by_similarity(shares)
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert (np.diff(kind[order]) != 0).sum() == 3
    group = rng.integers(0, 3, 100)
    assert (np.diff(group[by_similarity(shares, group)]) >= 0).all()


def test_a_square_table_of_shares_is_not_taken_for_distances() -> None:
    np.testing.assert_array_equal(np.sort(by_similarity((1 - np.eye(4)) / 3)), np.arange(4))


def test_alike_clients_are_neighbours_among_bubbles_too() -> None:
    kind = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 5))
    counts = 9 * np.eye(4, dtype=int)[kind] + 1
    counts[3] = 0
    figure = label_distribution(counts)
    shown = [int(text.get_text()) for text in figure.axes[0].get_xticklabels()]
    np.testing.assert_array_equal(np.sort(shown), np.arange(20))
    assert shown[-1] == 3
    assert (np.diff(kind[shown[:-1]]) != 0).sum() == 3
    dots = figure.axes[0].collections[0]
    place, label = np.asarray(dots.get_offsets(), int).T
    areas = np.asarray(dots.get_sizes())
    np.testing.assert_allclose(areas / areas.max(), counts[np.array(shown)[place], label] / 10)


@pytest.mark.parametrize("many", [5, 60])
def test_clients_without_rows_have_no_place_under_the_strip(many: int) -> None:
    sizes = (3, 3, 0, *(3,) * (many - 3))
    figure = label_distribution(told(split_pool(sizes), cluster=np.arange(many) % 2))
    axes = figure.axes[0]
    pieces = [patch for patch in axes.patches if patch.get_y() > 1]  # pyright: ignore
    held = [(np.delete(np.arange(many), 2) % 2 == one).sum() for one in (0, 1)]
    assert [piece.get_width() for piece in pieces] == pytest.approx(held)  # pyright: ignore
    assert "1 clients hold none" in caption(figure) or "1 hold none" in caption(figure)


@pytest.mark.parametrize("many", [4, 60])
def test_clusters_stand_side_by_side_under_their_names(many: int) -> None:
    cluster = np.arange(many) % 2
    federation = told(split_pool((3,) * many), cluster=cluster)
    figure = label_distribution(federation)
    axes = figure.axes[0]
    pieces = [patch for patch in axes.patches if patch.get_y() > 1]  # pyright: ignore
    assert [piece.get_width() for piece in pieces] == pytest.approx([many / 2, many / 2])  # pyright: ignore
    assert [text.get_text() for text in axes.texts] == ["0", "1", "cluster"]
    if many == 4:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "2", "1", "3"]


def test_of_very_many_clients_evenly_spaced_ones_are_drawn() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(9, rng.dirichlet([0.3] * 10), 10_000)
    begin = time.perf_counter()
    figure = label_distribution(counts)
    assert time.perf_counter() - begin < 20  # a second or two where nothing else runs
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (10, 2000)
    assert "2,000 of them are drawn" in caption(figure)


def test_a_federation_is_described() -> None:
    federation = split_pool()
    figure = label_distribution(federation)
    assert "3 clients, 18 training rows" in figure.get_suptitle()
    assert "1 clients hold none" in caption(figure)
    figure = client_sizes(federation)
    steps = figure.axes[0].patches[0].get_data()  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(steps.values, [12, 6, 0])
    assert "1 hold none" in caption(figure)


def test_the_lorenz_curve_bows_by_the_gini_coefficient() -> None:
    size = np.random.default_rng(0).lognormal(size=40).round(2)
    figure = client_sizes(size)
    x, y = np.asarray(figure.axes[1].get_lines()[1].get_data(), float)
    np.testing.assert_allclose(y, np.concatenate([[0], np.cumsum(np.sort(size))]) / size.sum())
    area = 1 - 2 * np.trapezoid(y, x)
    assert f"Gini {area:.2f}" in caption(figure)
    np.testing.assert_allclose(*client_sizes(np.zeros(3)).axes[1].get_lines()[1].get_data())


def test_gini() -> None:
    assert "Gini 0.00" in caption(client_sizes(np.full(10, 7)))
    assert "Gini 0.75" in caption(client_sizes(np.array([0, 0, 0, 9])))
    values = np.random.default_rng(0).lognormal(size=40).round(2)
    expected = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert f"Gini {expected:.2f}" in caption(client_sizes(values))


@pytest.mark.parametrize(("clients", "classes"), [(1, 2), (50, 10), (51, 100), (5000, 10), (3, 1)])
def test_every_size_is_drawn(clients: int, classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (clients, classes))
    axes = label_distribution(counts).axes[0]
    assert axes.get_window_extent().width > 500
    client_sizes(counts.sum(1))


def test_of_a_million_sizes_evenly_spaced_ones_are_drawn() -> None:
    figure = client_sizes(np.arange(1, 1_000_001))
    steps = figure.axes[0].patches[0].get_data()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(steps.values) == 4000
    assert (steps.values[0], steps.values[-1]) == (1_000_000, 1)
    assert (steps.edges[0], steps.edges[-1]) == (0.5, 1_000_000.5)


def test_bad_input_is_named() -> None:
    regression = fh.from_clients([(np.ones((4, 1)), np.ones(4))], task="regression", test=0.0)
    with pytest.raises(ValueError, match="one label a row"):
        label_distribution(regression)
    client_sizes(regression)
    with pytest.raises(ValueError, match="phase must be < 1"):
        client_sizes(split_pool(), phase=1)
    with pytest.raises(ValueError, match="split must be one of"):
        label_distribution(split_pool(), split="training")
    with pytest.raises(ValueError, match=r"array \[N, K\], got shape \(3,\)"):
        label_distribution(np.ones(3))
    with pytest.raises(ValueError, match="finite and >= 0"):
        client_sizes(np.array([1, -1]))
    with pytest.raises(TypeError, match="Federation or an array"):
        client_sizes("digits")  # pyright: ignore[reportArgumentType]
