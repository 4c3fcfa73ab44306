"""Tokens: what is drawn is how much more clients use them than all clients do."""

from __future__ import annotations

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity.distance import hellinger
from fedjax_het.plots import client_map, token_distribution
from fedjax_het.plots.embedding import in_the_plane
from fedjax_het.plots.evidence import evidence
from fedjax_het.plots.tokens import MOST, OTHERS, usage
from plots.dealt import federation, told
from plots.drawn import caption


def spoken(shares: np.ndarray, rows: int = 30, length: int = 10, seed: int = 0) -> fh.Federation:
    """Clients whose tokens have these shares [N, K]."""
    rng = np.random.default_rng(seed)
    said = [rng.choice(len(p), (rows, length + 1), p=p) for p in shares]
    pairs = [(each[:, :-1], each[:, 1:]) for each in said]
    return fh.from_clients(pairs, task="tokens", num_classes=shares.shape[1], test=0.0)


def counted(source: fh.Federation) -> np.ndarray:
    """Tokens of each client's targets, one client at a time, [N, K]."""
    y, rows = np.asarray(source.y), source.train
    index, offset, size = (np.asarray(each) for each in (rows.index, rows.offset[0], rows.size[0]))
    many = int(source.spec.pool.num_classes or 0)
    return np.stack([np.bincount(y[index[o : o + n]].ravel(), minlength=many) for o, n in zip(offset, size)])


def moved(x: jnp.ndarray, y: jnp.ndarray, by: jnp.ndarray, row: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Targets renamed by a turn of the client's."""
    return x, (y + by) % 5


def tokens_shown(figure: object) -> list[int]:
    """Token numbers from the top."""
    return [int(text.get_text().split()[0]) for text in figure.axes[0].get_yticklabels()]  # pyright: ignore


def test_targets_are_counted_and_a_random_deal_keeps_all_of_them() -> None:
    source = spoken(np.random.default_rng(1).dirichlet([0.5] * 6, 7))
    used = usage(source, split="train", phase=0)
    np.testing.assert_array_equal(used.tokens, np.arange(6))
    np.testing.assert_array_equal(used.counts, counted(source))
    np.testing.assert_array_equal(used.chance.sum(0), used.counts.sum(0))
    np.testing.assert_array_equal(used.chance.sum(1), used.counts.sum(1))
    assert (used.chance != used.counts).any()


def test_tokens_are_counted_as_the_transforms_leave_them() -> None:
    source = spoken(np.full((3, 5), 0.2))
    turn = fh.Transform(jnp.asarray([[0, 1, 3]], jnp.int32), moved)
    expected = np.stack([np.roll(each, by) for each, by in zip(counted(source), (0, 1, 3))])
    used = usage(dataclasses.replace(source, transforms=(turn,)), split="train", phase=0)
    np.testing.assert_array_equal(used.counts, expected)


def test_the_rarest_tokens_of_a_large_vocabulary_are_one() -> None:
    y = np.concatenate([np.arange(1500), np.arange(MOST)]).reshape(-1, 10)
    source = fh.from_clients([(y, y), (y[:3], y[:3])], task="tokens", test=0.0)
    used = usage(source, split="train", phase=0)
    np.testing.assert_array_equal(used.tokens, np.append(np.arange(MOST), OTHERS))
    np.testing.assert_array_equal(used.counts[:, -1], [500, 0])
    np.testing.assert_array_equal(used.counts.sum(1), [2500, 30])
    assert OTHERS not in tokens_shown(token_distribution(source))


def test_colours_are_shares_over_those_of_all_clients() -> None:
    source = spoken(np.random.default_rng(2).dirichlet([2.0] * 5, 8))
    figure = token_distribution(source)
    counts, axes = counted(source), figure.axes[0]
    share, among = counts / counts.sum(1, keepdims=True), counts.sum(0) / counts.sum()
    tokens = tokens_shown(figure)
    assert tokens == np.argsort(-among).tolist()
    clients = [int(text.get_text()) for text in axes.get_xticklabels()]
    with np.errstate(divide="ignore"):
        expected = np.clip(np.log2(share / among), -2, 2)[np.ix_(clients, tokens)].T
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), expected, atol=1e-9)
    assert "All 5 tokens" in caption(figure)


def test_alike_clients_are_neighbours_within_their_cluster() -> None:
    kind = np.random.default_rng(0).permutation(np.repeat(np.arange(3), 8))
    source = spoken((0.1 + np.eye(3, 6)[kind]) / 1.6)

    def order(figure: object) -> np.ndarray:
        return np.array([int(t.get_text()) for t in figure.axes[0].get_xticklabels()])  # pyright: ignore

    assert (np.diff(kind[order(token_distribution(source))]) != 0).sum() == 2
    cluster = np.arange(24) % 2
    figure = token_distribution(told(source, cluster=cluster))
    assert (np.diff(cluster[order(figure)]) >= 0).all()
    assert "latent clusters" in caption(figure)


def test_tokens_that_differ_are_chosen() -> None:
    shares = np.full((20, 60), 1 / 60)
    telling = np.arange(0, 60, 4)
    shares[::2, telling] *= 2
    shares[1::2, telling] /= 4
    source = spoken(shares / shares.sum(1, keepdims=True), rows=60)
    shown = tokens_shown(token_distribution(source))
    assert len(shown) == 30
    assert set(telling) <= set(shown)


def test_distances_by_tokens_are_hellingers() -> None:
    source = spoken(np.random.default_rng(3).dirichlet([0.5] * 6, 7))
    counts = counted(source)
    shares = counts / counts.sum(1, keepdims=True)
    (found,) = evidence(source, ["tokens"], np.arange(7), split="train", phase=0)
    distance = np.linalg.norm(found.values[:, None] - found.values[None], axis=-1)
    np.testing.assert_allclose(distance, hellinger(shares[:, None], shares[None]), atol=1e-9)


def test_clients_of_their_own_vocabulary_leave_the_ring_and_others_do_not() -> None:
    def outside(shares: np.ndarray) -> float:
        (found,) = evidence(spoken(shares), ["tokens"], np.arange(len(shares)), split="train", phase=0)
        place, _, ring = in_the_plane(found, np.full(len(shares), 30))
        return float((np.hypot(*place.T) > ring).mean())

    assert outside(np.random.default_rng(4).dirichlet([0.5] * 8, 40)) > 0.8
    assert outside(np.full((40, 8), 1 / 8)) < 0.3


def test_a_ring_knows_that_the_tokens_of_a_row_belong_together() -> None:
    # every row is one token over and over, and rows are dealt evenly: no more than chance
    y = np.repeat(np.random.default_rng(5).integers(0, 4, (40, 30, 1)), 50, axis=2)
    source = fh.from_clients([(each, each) for each in y], task="tokens", test=0.0)
    (found,) = evidence(source, ["tokens"], np.arange(40), split="train", phase=0)
    place, _, ring = in_the_plane(found, np.full(40, 30))
    assert (np.hypot(*place.T) > ring).mean() < 0.3


def test_clients_are_drawn_in_the_plane_by_tokens() -> None:
    figure = client_map(spoken(np.random.default_rng(6).dirichlet([0.5] * 6, 7)))
    assert figure.axes[0].get_title("left") == "by tokens: P(token)"
    with pytest.raises(ValueError, match="has no such rows"):
        client_map(federation((3, 4)), by="tokens")


def test_one_target_a_row_and_clients_without_rows_are_drawn() -> None:
    x = np.arange(40).reshape(20, 2) % 7
    lists = [np.arange(8), np.arange(0), np.arange(8, 20)]
    source = fh.from_index_lists(fh.pool(x, x[:, 0], task="tokens"), None, lists, test=0.0)
    figure = token_distribution(source)
    assert np.asarray(figure.axes[0].images[0].get_array()).shape[1] == 2
    assert "1 clients without rows" in caption(figure)


def test_roles_of_plays_are_drawn_in_no_time() -> None:
    source = spoken(np.random.default_rng(7).dirichlet(np.geomspace(50, 0.5, 75), 717), rows=40, length=80)
    begin = time.perf_counter()
    figure = token_distribution(source)
    client_map(source)
    assert time.perf_counter() - begin < 15  # about one second where nothing else runs
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (30, 717)
    assert "Of 75 tokens these 30" in caption(figure)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="must hold tokens as targets"):
        token_distribution(federation())
    with pytest.raises(TypeError, match="must be a Federation"):
        token_distribution(np.ones(3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="1 or more clients with rows of 'test'"):
        token_distribution(spoken(np.full((2, 3), 1 / 3)), split="test")
    with pytest.raises(ValueError, match="split must be one of"):
        token_distribution(spoken(np.full((2, 3), 1 / 3)), split="all")
