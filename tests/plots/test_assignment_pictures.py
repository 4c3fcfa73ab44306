"""Clusters, similarities, tasks, mixtures and gains by size: what is drawn is what was given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedjax_het.engine import History, stack
from fedjax_het.engine.history import Variable
from fedjax_het.plots import (
    cluster_assignment,
    gain_by_size,
    mixture_weights,
    save,
    similarity_map,
    task_relationship,
)
from fedjax_het.plots.membership import assignments
from fedjax_het.plots.order import by_relation
from plots.dealt import federation, told
from plots.drawn import caption, key_words, overlaps
from plots.made import run

FOUND = np.array([[-1, 0, -1, 1, 0, -1], [1, 0, -1, 1, 0, 0], [1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]])
TRUTH = np.array([5, 5, 5, 5, 2, 2])


def names(figure: Figure, axes: int = 0) -> list[str]:
    """The labels on axis y."""
    return [text.get_text() for text in figure.axes[axes].get_yticklabels()]


def squares(figure: Figure, axes: int = 0) -> np.ndarray:
    """What a heat map of images shows."""
    return np.ma.filled(figure.axes[axes].images[0].get_array().astype(float), np.nan)  # pyright: ignore


def cells(figure: Figure, axes: int = 0) -> np.ma.MaskedArray:
    """The clusters drawn, as places in their list."""
    return np.ma.asarray(figure.axes[axes].collections[0].get_array())


def reported() -> History:
    """Four clients, three slots: who reports what in three rounds, after which nothing is said of client 3."""
    slots = ("round", "slot")
    return History(
        {
            "round": Variable(("round",), np.arange(3)),
            "cohort": Variable(slots, np.array([[0, 2, 4], [0, 1, 2], [1, 2, 4]])),
            "present": Variable(slots, np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0]], bool)),
            "lost": Variable(slots, np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]], bool)),
            "info/cluster": Variable(slots, np.array([[1, 0, 9], [0, 1, 3], [1, 2, 9]])),
            "evaluated_at": Variable(("evaluation",), np.array([3])),
            "registered": Variable(("evaluation",), np.array([4])),
        }
    )


def test_clients_keep_the_cluster_that_they_reported_last() -> None:
    done, found = assignments(reported())
    np.testing.assert_array_equal(done, [1, 2, 3])
    # slots without a client say nothing, nor does a report that was left out for NaN
    np.testing.assert_array_equal(found, [[1, -1, 0, -1], [0, 1, 0, -1], [0, 1, 2, -1]])


def test_a_history_is_drawn_as_its_assignments() -> None:
    drawn, array = (cluster_assignment(source) for source in (reported(), assignments(reported())[1]))
    assert names(drawn) == names(array)
    np.testing.assert_array_equal(cells(drawn), cells(array))
    np.testing.assert_array_equal(np.ma.getmaskarray(cells(drawn)), np.ma.getmaskarray(cells(array)))


def test_one_of_several_runs_is_drawn_and_named() -> None:
    ones = {"info/cluster": Variable(("round", "slot"), np.ones((3, 3)))}
    other = dataclasses.replace(reported(), variables={**reported().variables, **ones})
    several = stack([other, dataclasses.replace(other, variables={**other.variables, **reported().variables})])
    np.testing.assert_array_equal(assignments(several, run=1)[1], assignments(reported())[1])
    np.testing.assert_array_equal(assignments(several)[1], [[1, -1, 1, -1], [1, 1, 1, -1], [1, 1, 1, -1]])
    assert caption(cluster_assignment(several, run=1)).endswith("Run 1 of 2, counted from 0.")


def test_a_line_is_a_client_and_those_that_end_together_are_neighbours() -> None:
    figure = cluster_assignment(FOUND)
    order = [int(name) for name in names(figure)]
    assert sorted(order) == list(range(6))
    assert (np.diff(FOUND[-1, order]) >= 0).all()
    np.testing.assert_array_equal(np.ma.filled(cells(figure), -1), FOUND[:, order].T)
    np.testing.assert_array_equal(np.ma.getmaskarray(cells(figure)), FOUND[:, order].T < 0)
    assert key_words(figure) == ["0: 2", "1: 4"]
    assert "ever changed cluster: 1, the last in round 4." in caption(figure)


def test_what_the_last_round_changed_is_drawn_from_the_final_assignment() -> None:
    final = np.array([1, 1, 1, 1, 2, 2])
    figure = cluster_assignment(FOUND, TRUTH, final=final)
    order = np.lexsort([*FOUND[:3], final, TRUTH])
    np.testing.assert_array_equal(np.ma.filled(cells(figure, 1)[:, -1], -1), final[order])
    assert key_words(figure) == ["0: 0", "1: 4", "2: 2"]
    assert "adjusted Rand index 1.00" in caption(figure)
    history = cluster_assignment(reported(), final=np.array([3, 3, 3, -1]))
    assert key_words(history)[-2:] == ["3: 3", "none yet: 1"]


def test_the_title_counts_and_the_legend_covers_no_line() -> None:
    figure = cluster_assignment(np.zeros((2, 6), int), TRUTH)
    assert "6 clients, 1 cluster" in figure.get_suptitle() + "".join(a.get_title() for a in figure.axes)
    figure.canvas.draw()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= figure.axes[0].get_window_extent().y1 - 1


def test_with_truth_latent_clusters_are_blocks_and_agreement_is_a_curve() -> None:
    figure = cluster_assignment(FOUND, TRUTH)
    assert names(figure, 1) == ["latent 2", "latent 5"]
    first, second = figure.axes[0].get_lines()[:2]
    np.testing.assert_allclose(np.asarray(first.get_ydata(), float)[-1], 1)
    np.testing.assert_allclose(np.asarray(second.get_ydata(), float), [2 / 3, 4 / 5, 5 / 6, 1])
    assert "adjusted Rand index 1.00" in caption(figure) and "100 % of the latent" in caption(figure)


def test_a_federation_knows_the_truth() -> None:
    source = told(federation((3,) * 6), cluster=TRUTH.astype(np.int32))
    assert names(cluster_assignment(FOUND, source), 1) == ["latent 2", "latent 5"]


def test_clusters_that_merged_are_said() -> None:
    merged = np.zeros((3, 6), int)
    words = caption(cluster_assignment(merged, TRUTH))
    assert "adjusted Rand index 0.00" in words and "50 % of the latent" in words and "Nobody changed" in words


def test_rounds_lie_where_they_are() -> None:
    figure = cluster_assignment(FOUND, rounds=[10, 20, 40, 50])
    edges = figure.axes[0].collections[0].get_coordinates()[0, :, 0]  # pyright: ignore
    np.testing.assert_allclose(edges, [5, 15, 30, 45, 55])


def test_many_clients_rounds_and_clusters_are_drawn() -> None:
    found = np.random.default_rng(0).integers(0, 30, (3000, 1500))
    figure = cluster_assignment(found, np.arange(1500) % 30)
    assert cells(figure, 1).shape == (400, 1000)
    assert "400 of 1,500 clients" in caption(figure)
    assert key_words(figure)[-1] == "and 10 more"
    assert not overlaps(figure)


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_clusters_have_colours_of_their_own(count: int) -> None:
    figure = cluster_assignment(np.arange(count)[None])
    colours = {tuple(patch.get_facecolor()) for legend in figure.legends for patch in legend.get_patches()}
    assert len(colours) == count
    assert not overlaps(figure)


def similar(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of twelve clients in three clusters, in mixed order, and the clusters."""
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat([0, 1, 2], 4))
    x = np.eye(3)[cluster] + 0.1 * rng.normal(size=(12, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T, cluster


def test_similarities_stand_cluster_by_cluster() -> None:
    matrix, cluster = similar()
    figure = similarity_map(matrix, cluster)
    order = np.array([int(name) for name in names(figure)])
    np.testing.assert_array_equal(cluster[order], np.repeat([0, 1, 2], 4))
    np.testing.assert_allclose(squares(figure), matrix[np.ix_(order, order)])
    np.testing.assert_allclose([line.get_ydata()[0] for line in figure.axes[0].get_lines()[::2]], [3.5, 7.5])  # pyright: ignore
    same = cluster[:, None] == cluster
    words = f"Least within a cluster {matrix[same].min():.2f}, largest across two {matrix[~same].max():.2f}."
    assert words in caption(figure)


def test_without_clusters_alike_clients_are_neighbours() -> None:
    matrix, cluster = similar()
    order = [int(name) for name in names(similarity_map(matrix))]
    assert (np.diff(cluster[order]) != 0).sum() == 2


def test_small_similarities_are_seen_and_zero_is_white() -> None:
    matrix = 0.01 * np.ones((4, 4))
    np.fill_diagonal(matrix, 1.0)
    image = similarity_map(matrix).axes[0].images[0]
    assert image.get_clim() == pytest.approx((-0.01, 0.01))
    np.testing.assert_allclose(image.cmap(0.5), [1, 1, 1, 1], atol=0.01)


def test_clients_without_an_update_come_last_and_are_grey() -> None:
    matrix, cluster = similar()
    matrix[5], matrix[:, 5] = np.nan, np.nan
    figure = similarity_map(matrix, cluster)
    assert names(figure)[-1] == "5"
    assert np.isnan(squares(figure)[-1]).all()
    assert "without a similarity (1)" in caption(figure)


def test_the_strip_has_one_colour_a_latent_cluster_wherever_it_is() -> None:
    matrix, cluster = similar()
    figure = similarity_map(matrix, np.arange(12) % 2, truth=cluster)
    order = np.array([int(name) for name in names(figure)])
    pieces = list(figure.axes[0].patches)
    starts = [round(piece.get_x() + 0.5) for piece in pieces]  # pyright: ignore
    colour = {}
    for start, piece in zip(starts, pieces):
        assert colour.setdefault(cluster[order[start]], piece.get_facecolor()) == piece.get_facecolor()
    assert len(set(colour.values())) == 3


def test_many_clients_are_thinned() -> None:
    x = np.random.default_rng(0).normal(size=(1300, 3))
    figure = similarity_map(x @ x.T, np.arange(1300) % 3)
    assert squares(figure).shape == (1000, 1000)
    assert "1,000 of 1,300 clients" in caption(figure)


def test_an_order_holds_everybody_once_and_neighbours_are_alike() -> None:
    x = np.random.default_rng(0).permutation(np.linspace(0, 1, 50))
    order = by_relation(-np.abs(x[:, None] - x), np.zeros(50, int))
    assert (np.abs(np.diff(x[order])) < 0.1).all()
    np.testing.assert_array_equal(np.sort(order), np.arange(50))
    unknown = by_relation(np.full((4, 4), np.nan), np.zeros(4, int))
    np.testing.assert_array_equal(np.sort(unknown), np.arange(4))


COVARIANCE = (
    np.array([[4.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, -0.5], [1.0, 0.0, 1.0, 0.0], [0.0, -0.5, 0.0, 1.0]]) / 7
)


def test_tasks_are_shown_as_correlations_with_their_variances() -> None:
    figure = task_relationship(COVARIANCE, ["a", "b", "c", "d"], order=False)
    np.testing.assert_allclose(
        squares(figure), [[1, 0, 0.5, 0], [0, 1, 0, -0.5], [0.5, 0, 1, 0], [0, -0.5, 0, 1]]
    )
    np.testing.assert_allclose([bar.get_width() for bar in figure.axes[1].patches], np.diag(COVARIANCE))  # pyright: ignore
    assert names(figure) == ["a", "b", "c", "d"]
    assert "Trace 1" in caption(figure) and "-0.50 to 0.50" in caption(figure)
    assert {text.get_text() for text in figure.axes[0].texts} == {"1.00", "0.00", "0.50", "-0.50"}


def test_alike_tasks_are_neighbours_and_covariances_are_shown_if_asked() -> None:
    figure = task_relationship(COVARIANCE, correlation=False)
    order = [int(name) for name in names(figure)]
    assert abs(order.index(0) - order.index(2)) == 1
    np.testing.assert_allclose(squares(figure), COVARIANCE[np.ix_(order, order)])


def test_a_task_without_variance_has_no_correlation() -> None:
    covariance = np.diag([1.0, 0.0, 2.0])
    shown = squares(task_relationship(covariance, order=False))
    assert np.isnan(shown[1]).all() and np.isfinite(shown[0, 2])


def test_one_task_and_names_with_dollars() -> None:
    figure = task_relationship(np.ones((1, 1)), ["$\\broken"])
    assert names(figure) == ["$\\broken"]


def heights(figure: Figure, axes: int = 0) -> np.ndarray:
    """The weights drawn, [N, M]."""
    parts = [patch.get_data() for patch in figure.axes[axes].patches]  # pyright: ignore
    return np.stack([part.values - part.baseline for part in parts], axis=1)


def test_a_bar_is_a_client_and_its_parts_are_its_weights() -> None:
    pi = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    figure = mixture_weights(pi)
    order = [int(text.get_text()) for text in figure.axes[0].get_xticklabels()]
    np.testing.assert_allclose(heights(figure), pi[order])
    assert (np.diff(pi[order].argmax(1)) >= 0).all()
    assert key_words(figure) == ["2", "1", "0"]


def test_renamed_components_are_matched_to_the_true_ones() -> None:
    star = np.random.default_rng(0).dirichlet(np.ones(3), 100)
    figure = mixture_weights(star[:, [2, 0, 1]], star)
    np.testing.assert_allclose(heights(figure, 0), heights(figure, 1))
    assert key_words(figure) == ["2 (learned 0)", "1 (learned 2)", "0 (learned 1)"]
    assert "is 0.000 on average" in caption(figure)
    assert not overlaps(figure)


def test_a_component_too_few_and_clients_without_a_mixture() -> None:
    star = np.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    pi = np.array([[0.6, 0.4], [0.3, 0.7], [np.nan, np.nan]])
    figure = mixture_weights(pi, star)
    np.testing.assert_allclose(heights(figure)[2], 0)
    assert any(word.endswith("(learned -)") for word in key_words(figure))
    assert "without a mixture (1)" in caption(figure)


def test_very_many_mixtures_are_thinned() -> None:
    figure = mixture_weights(np.random.default_rng(0).dirichlet(np.ones(12), 5000))
    assert heights(figure).shape == (2000, 12)
    assert "2,000 of 5,000" in caption(figure)


ROWS = np.array([10, 200, 30, 4, 50, 0])


def test_gains_stand_over_the_rows_of_their_clients() -> None:
    history, baseline = stack([run(1), run(2)]), stack([run(3), run(4)])
    figure = gain_by_size({"fedper": history, "itself": baseline}, baseline, ROWS)
    x, y = np.asarray(figure.axes[0].collections[0].get_offsets()).T
    np.testing.assert_array_equal(x, [4, 10, 30, 50, 200])
    gain = (history["personal/accuracy"] - baseline["personal/accuracy"])[:, -1, :5].mean(0)
    np.testing.assert_allclose(y, 100 * gain[[3, 0, 2, 4, 1]])
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_title("left").startswith(f"fedper: mean {100 * gain.mean():+.1f} points, rho")
    assert figure.axes[1].get_title("left") == "itself: mean +0.0 points"


def test_less_of_a_loss_is_a_gain() -> None:
    figure = gain_by_size(run(1), run(2), ROWS, "loss")
    gain = (run(2)["personal/loss"] - run(1)["personal/loss"])[-1, :5]
    drawn = np.asarray(figure.axes[0].collections[0].get_offsets())[:, 1]
    np.testing.assert_allclose(np.sort(drawn), np.sort(gain))


def test_a_federation_has_the_sizes_and_who_has_no_rows_is_left_out() -> None:
    source = federation((10, 0, 30, 4, 50, 0))
    x = np.asarray(gain_by_size(run(1), run(2), source).axes[0].collections[0].get_offsets())[:, 0]
    np.testing.assert_array_equal(x, [4, 10, 30, 50])


def test_the_middle_line_is_the_median() -> None:
    figure = gain_by_size(run(1), run(2), np.full(6, 7), groups=3)
    gain = 100 * (run(1)["personal/accuracy"] - run(2)["personal/accuracy"])[-1, :5]
    (median,) = figure.axes[0].collections[2].get_segments()  # pyright: ignore
    np.testing.assert_allclose(median[:, 1], np.median(gain))
    assert figure.axes[0].get_xscale() == "linear"


def test_every_method_has_its_panel_and_no_model_is_a_dash() -> None:
    histories = {f"m{i}": run(i) for i in range(5)} | {"without": run(9, consensus=False)}
    figure = gain_by_size(histories, run(8), ROWS, who="shared")
    assert figure.axes[5].get_title("left") == "without: - (no such model)"


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    matrix, cluster = similar()
    pi = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    for draw in (
        lambda: cluster_assignment(FOUND, TRUTH),
        lambda: similarity_map(matrix, cluster, truth=cluster),
        lambda: task_relationship(COVARIANCE),
        lambda: mixture_weights(pi, pi),
        lambda: gain_by_size(run(1), run(2), ROWS),
    ):
        first, second = (save(draw(), tmp_path / f"{i}.png").read_bytes() for i in range(2))
        assert first == second


def test_bad_input_is_named() -> None:
    with pytest.raises(TypeError, match="source must be a History"):
        cluster_assignment(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"source must have shape \[R, N\]"):
        cluster_assignment(np.zeros(3, int))
    with pytest.raises(ValueError, match="truth must have one entry"):
        cluster_assignment(FOUND, np.zeros(5, int))
    with pytest.raises(TypeError, match="final must be assignments"):
        cluster_assignment(FOUND, final=np.zeros(6))
    with pytest.raises(ValueError, match="final must have one entry for each of 6 clients"):
        cluster_assignment(FOUND, final=np.zeros(5, int))
    with pytest.raises(ValueError, match="source must hold info/cluster"):
        cluster_assignment(run())
    with pytest.raises(ValueError, match="run must be < 1, got 1"):
        cluster_assignment(reported(), run=1)
    with pytest.raises(ValueError, match="similarity must be symmetric"):
        similarity_map(np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="similarity must be a square matrix"):
        similarity_map(np.ones((3, 2)))
    with pytest.raises(TypeError, match="similarity must be a matrix of numbers"):
        similarity_map(np.full((2, 2), "a"))
    with pytest.raises(ValueError, match="cluster must have a whole number"):
        similarity_map(np.eye(3), np.zeros(2, int))
    with pytest.raises(ValueError, match="diagonal >= 0"):
        task_relationship(-np.eye(3))
    with pytest.raises(ValueError, match="names must have one entry"):
        task_relationship(np.eye(3), ["a"])
    with pytest.raises(ValueError, match="weights must be >= 0 with rows"):
        mixture_weights(np.ones((3, 2)))
    with pytest.raises(TypeError, match="weights must hold numbers"):
        mixture_weights(np.full((2, 2), "a"))
    with pytest.raises(ValueError, match="truth must have 3 rows"):
        mixture_weights(np.full((3, 2), 0.5), np.full((2, 2), 0.5))
    with pytest.raises(TypeError, match="sizes must be a Federation"):
        gain_by_size(run(), run(), "digits")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="sizes must have an entry for client 4"):
        gain_by_size(run(), run(), np.ones(3))
