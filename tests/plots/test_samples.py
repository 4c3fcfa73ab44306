"""Rows of a few clients, renamed labels, and all pictures at once."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import concept, feature, temporal
from fedjax_het.plots import label_map, pictures, sample_images, sample_rows
from fedjax_het.plots.relabelling import relabelled_shares
from fedjax_het.plots.truth import clusters_of, numbers_of, said
from plots.dealt import federation, images, told
from plots.drawn import caption


def mosaic(figure: object) -> np.ndarray:
    """The value of each image's first pixel, [m, c]; NaN where there is none."""
    pixels = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)  # pyright: ignore
    return np.asarray(pixels)[::5, ::6]


def names(figure: object) -> list[str]:
    """What stands beside the rows."""
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]  # pyright: ignore


def test_the_first_images_of_each_class_are_shown() -> None:
    figure = sample_images(images(), clients=[3, 1])
    # class c of client k: rows 6 k + c and 6 k + 3 + c
    expected = np.array([[6 * k + c + again for c in range(3) for again in (0, 3)] for k in (3, 1)])
    np.testing.assert_allclose(mosaic(figure)[:, [0, 1, 3, 4, 6, 7]], (expected / 1000), atol=1e-6)
    assert np.isnan(mosaic(figure)[:, 2]).all()  # each client holds two of a class
    assert names(figure) == ["client 3", "client 1"]


def test_images_are_seen_through_transforms() -> None:
    scaled = feature.affine(images(), gains=[1, 2, 3, 4], centre=0.0)
    plain, seen = (mosaic(sample_images(source, classes=[0])) for source in (images(), scaled))
    np.testing.assert_allclose(seen, plain * np.arange(1, 5)[:, None], rtol=1e-5)


def test_a_class_is_what_the_client_calls_it() -> None:
    renamed = concept.permute(images(), clusters=[0, 1, 1, 0], moved=3)
    becomes = np.asarray(renamed.truth["permutation"])[1]
    plain, seen = (mosaic(sample_images(source, clients=[1])) for source in (images(), renamed))
    for old, new in enumerate(becomes):
        np.testing.assert_allclose(seen[0, 3 * new : 3 * new + 2], plain[0, 3 * old : 3 * old + 2])


def test_clusters_take_turns_and_rows_say_what_was_done() -> None:
    source = feature.rotate(images(20), clusters=4)
    figure = sample_images(source, clients=8)
    cluster = np.asarray(source.truth["cluster"])
    shown = [int(name.split()[1]) for name in names(figure)]
    np.testing.assert_array_equal(cluster[shown], np.repeat(np.arange(4), 2))
    assert names(figure)[-1] == f"client {shown[-1]}\ncluster 3\nangle 270°"
    spread = told(images(20), angle=np.random.default_rng(0).permutation(20.0 * np.arange(20)))
    shown = [int(name.split()[1]) for name in names(sample_images(spread, clients=3))]
    np.testing.assert_allclose(spread.truth["angle"][np.array(shown)], [0, 200, 380])


@pytest.mark.parametrize("depth", [(), (3,)])
def test_black_and_white_are_the_ends_of_the_pool_whatever_clients_add(depth: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (24, 4, 5, *depth)).astype(np.uint8)
    x[0], x[1] = 0, 255
    source = fh.from_index_lists(x, np.arange(24) % 3, np.split(np.arange(24), 4), test=0.0)
    noisy = feature.noise(source, levels=[0, 0.1, 0.1, 5])
    plain, seen = (sample_images(one).axes[0].images[0] for one in (source, noisy))
    assert seen.get_clim() == plain.get_clim() == (0, pytest.approx(1))
    # the client without noise looks as before, no matter how far the noise of others reaches
    np.testing.assert_allclose(*(np.ma.filled(one.get_array(), 0)[:4] for one in (plain, seen)), atol=1e-6)
    assert "lie beyond" in caption(sample_images(noisy))
    assert "lie beyond" not in caption(sample_images(source))


def test_negative_values_of_a_pool_are_shown() -> None:
    x = np.random.default_rng(0).normal(size=(12, 4, 5)).astype(np.float32)
    source = fh.from_index_lists(x, np.arange(12) % 3, np.split(np.arange(12), 2), test=0.0)
    assert sample_images(source).axes[0].images[0].get_clim() == pytest.approx((x.min(), x.max()))


@pytest.mark.parametrize(("depth", "shape"), [((), (2,)), ((3,), (3,)), ((2,), (2,)), ((1,), (2,))])
def test_images_of_any_depth_are_drawn(depth: tuple[int, ...], shape: tuple[int]) -> None:
    image = np.asarray(sample_images(images(depth=depth)).axes[0].images[0].get_array())
    assert (image.ndim,) == shape
    assert np.nanmax(image) <= 1


def test_images_without_labels_are_drawn() -> None:
    x = np.random.default_rng(0).uniform(size=(2, 4, 3, 3))
    source = fh.from_clients([(x[0], np.ones(4)), (x[1], np.ones(4))], task="regression", test=0.0)
    assert sample_images(source).axes[0].get_xlabel() == ""
    with pytest.raises(ValueError, match="classes must be None"):
        sample_images(source, classes=[1])


def test_rows_that_are_no_images_are_dots() -> None:
    figure = sample_rows(federation((30, 0, 300)), clients=8)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == ["client 0", "client 2"]
    grey, *classes = shown[1].collections
    assert len(grey.get_offsets()) == 280
    assert sum(len(one.get_offsets()) for one in classes) == 250
    assert "At most 250 rows" in caption(figure)
    off = np.asarray(grey.get_offsets())
    assert (off**2).sum() == pytest.approx(2 * 280, rel=1e-5)  # both features, standardised


def test_targets_are_colours() -> None:
    source = fh.from_clients([(np.eye(4), np.arange(4.0))] * 2, task="regression", test=0.0)
    figure = sample_rows(source)
    np.testing.assert_allclose(np.sort(figure.axes[0].collections[1].get_array()), np.arange(4))


def test_renamed_labels_are_counted() -> None:
    source = concept.permute(federation((30,) * 6, 5), clusters=3)
    share, told_of = relabelled_shares(source, split="train", phase=0)
    np.testing.assert_allclose(share.argmax(2), source.truth["permutation"])
    np.testing.assert_allclose(share.max(2), 1)
    moved = (np.asarray(source.truth["permutation"]) != np.arange(5)).mean(1)
    assert [name for name, _ in told_of] == ["cluster 0", "cluster 1", "cluster 2"]
    np.testing.assert_allclose([part for _, part in told_of], moved)
    figure = label_map(source)
    for axes, part in zip(figure.axes, share):
        np.testing.assert_allclose(axes.images[0].get_array(), part.T)


def test_without_clusters_all_clients_are_in_one_map() -> None:
    source = concept.swap(federation((30,) * 6, 5), rate=1.0)
    share, told_of = relabelled_shares(source, split="train", phase=0)
    table = np.asarray(source.truth["permutation"])
    expected = np.stack([(table == label).mean(0) for label in range(5)], 1)
    np.testing.assert_allclose(share[0], expected)
    assert told_of[0][0] == "all clients"
    assert relabelled_shares(federation(), split="train", phase=0)[1] == [("all clients", 0.0)]


def test_truth_is_put_into_words() -> None:
    many = {"angle": np.array([0.0, 34.25]), "gain/2": np.array([1.0, 2.0]), "sizes": np.ones(2)}
    source = told(federation((3, 4)), cluster=np.array([1, 0]), kernel=np.ones((2, 3)), **many)
    assert said(source, 1) == ["cluster 0", "angle 34.2°", "gain/2 2"]
    assert list(numbers_of(told(source, **{"state 1/angle": np.zeros(2)}))) == ["gain/2"]
    later = told(federation((3, 4)), **{"state 1/cluster": np.array([1, 0])})
    np.testing.assert_array_equal(clusters_of(later), [1, 0])  # pyright: ignore[reportArgumentType]
    assert clusters_of(federation()) is None


def test_pictures_are_those_that_apply() -> None:
    assert set(pictures(federation())) == {"client_sizes", "label_distribution", "client_map", "sample_rows"}
    later = temporal.sudden(images(), change=functools.partial(concept.permute, clusters=2), round=3)
    kinds = {"client_sizes", "label_distribution", "client_map", "sample_images", "phase_timeline"}
    assert set(pictures(later)) == kinds
    assert set(pictures(later, phase=1)) == kinds | {"label_map"}
    regression = fh.from_clients([(np.ones((4, 1)), np.ones(4))], task="regression", test=0.0)
    assert set(pictures(regression)) == {"client_sizes"}
    tokens = fh.from_clients([(np.ones((4, 6), int), np.ones((4, 6), int))] * 2, task="tokens", test=0.0)
    assert set(pictures(tokens)) == {"client_sizes", "client_map", "token_distribution"}
    one = fh.from_clients([(np.zeros((4, 6), int), np.zeros((4, 6), int))] * 2, task="tokens", test=0.0)
    assert set(pictures(one)) == {"client_sizes"}
    assert set(pictures(federation(), split="test")) == {"client_sizes", "label_distribution"}
    assert set(pictures(federation((4,), 1))) == {"client_sizes", "label_distribution", "sample_rows"}


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="must hold images"):
        sample_images(federation())
    with pytest.raises(ValueError, match="clients must be <= 16"):
        sample_images(images(20), clients=17)
    with pytest.raises(ValueError, match=r"clients must be 1..12 numbers in 0..2"):
        sample_rows(federation(), clients=[3])
    with pytest.raises(TypeError, match="clients must be whole numbers"):
        sample_rows(federation(), clients=[0.5])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"classes must be 1..10 labels below 3"):
        sample_images(images(), classes=[3])
    with pytest.raises(ValueError, match="1 or more clients with rows of 'test'"):
        sample_rows(federation(), split="test")
    with pytest.raises(ValueError, match="split must be one of"):
        sample_rows(federation(), split="all")
    with pytest.raises(ValueError, match="one label a row"):
        label_map(fh.from_clients([(np.ones((4, 1)), np.ones(4))], task="regression", test=0.0))
    with pytest.raises(TypeError, match="must be a Federation"):
        pictures(3)  # pyright: ignore[reportArgumentType]
