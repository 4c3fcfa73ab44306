"""The cut of each client's rows: exact sizes, every row once, label shares, seeds, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.split import CHUNK, Drawn, Held, every_client, generator

quick = settings(max_examples=40, derandomize=True, deadline=None)


def cut(labels, rows, valid, test, seed=0):
    """One client's train, valid and test rows."""
    held = Held(np.asarray(rows), np.array([len(rows)]))
    return [part.index for part in every_client(labels, held, test=test, valid=valid, seed=seed)]


def every(labels, parts, **options):
    """(train, valid, test), each a list of arrays."""
    return tuple(held.parts() for held in every_client(labels, Held.of(parts), **options))


@quick
@given(
    size=st.integers(0, 60),
    classes=st.integers(1, 60),
    valid=st.floats(0, 0.45),
    test=st.floats(0, 0.45),
    seed=st.integers(0, 99),
)
def test_every_row_once_and_sizes_as_asked(size, classes, valid, test, seed):
    rng = np.random.default_rng(seed)
    labels, rows = rng.integers(0, classes, 200), rng.permutation(200)[:size]
    parts = cut(labels, rows, valid, test, seed)
    assert sorted(np.concatenate(parts)) == sorted(rows)
    for part, share in zip(parts, (1 - valid - test, valid, test)):
        assert abs(len(part) - share * size) < 1 or size <= 2
    assert len(parts[0]) >= min(size, 1)


@quick
@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_each_label_gives_its_share(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    _, valid, test = cut(labels, np.arange(len(labels)), 0.3, 0.25, seed)
    left = np.array(counts)
    for part in (test, valid):
        exact = left * len(part) / max(1, left.sum())
        got = np.bincount(labels[part], minlength=len(counts))
        assert np.all((got >= np.floor(exact)) & (got <= np.ceil(exact)))
        left = left - got


def test_parts_keep_the_order_of_the_rows():
    rows = np.array([9, 3, 7, 1, 5, 0, 2, 8])
    for part in cut(None, rows, 0.25, 0.25):
        places = [list(rows).index(row) for row in part]
        assert len(part) >= 2 and places == sorted(places)


def test_rounding_of_tiny_clients():
    sizes = {n: tuple(map(len, cut(None, np.arange(n), 0.0, 0.2))) for n in range(6)}
    assert sizes == {0: (0, 0, 0), 1: (1, 0, 0), 2: (2, 0, 0), 3: (2, 0, 1), 4: (3, 0, 1), 5: (4, 0, 1)}
    assert tuple(map(len, cut(None, np.arange(1), 0.45, 0.5))) == (1, 0, 0)
    assert tuple(map(len, cut(None, np.arange(2), 0.45, 0.5))) == (1, 0, 1)


def test_renaming_labels_changes_nothing():
    labels = np.random.default_rng(1).integers(0, 4, 50)
    names = np.array([2, 0, 3, 1])
    for a, b in zip(cut(labels, np.arange(50), 0.1, 0.2), cut(names[labels], np.arange(50), 0.1, 0.2)):
        np.testing.assert_array_equal(a, b)


def test_many_clients_in_chunks_are_cut_by_the_rule():
    """Sizes, quotas and the seed's order hold on both sides of a chunk's border; drawn rows are cut alike."""
    labels = np.random.default_rng(0).integers(0, 3, 1000)
    size = np.full(CHUNK // 300 + 5, 301)
    size[::7] = 0
    index = np.random.default_rng(1).integers(0, 1000, size.sum()).astype(np.int32)
    ends = np.cumsum(size)
    drawn = Drawn(size, lambda clients: index[(ends - size)[clients][0] : ends[clients][-1]])
    options = {"test": 0.2, "valid": 0.1, "seed": 7}
    together, asked = (every_client(labels, held, **options) for held in (Held(index, size), drawn))
    for a, b in zip(together, asked):
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(a.size, b.size)
    train, valid, test = (held.parts() for held in together)
    for k, own in enumerate(Held(index, size).parts()):
        assert [len(part[k]) for part in (train, valid, test)] == ([211, 30, 60] if len(own) else [0, 0, 0])
        np.testing.assert_array_equal(
            np.sort(np.concatenate([p[k] for p in (train, valid, test)])), np.sort(own)
        )
        exact = np.bincount(labels[own], minlength=3) * len(test[k]) / max(1, len(own))
        assert np.abs(np.bincount(labels[test[k]], minlength=3) - exact).max(initial=0) < 1


def test_ties_go_to_frequent_labels_as_often_as_to_rare_ones():
    """Of two rows of one label and six of another half are held out of 2: the tie of 0.5 and 1.5 is fair."""
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    held = Held(np.tile(np.arange(8), 20_000), np.full(20_000, 8))
    _, _, test = every_client(labels, held, test=0.25, valid=0.0, seed=1)
    rare = (labels[test.index] == 0).reshape(20_000, 2).sum(1)
    assert set(np.unique(rare)) == {0, 1}
    assert abs(rare.mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)


def test_every_row_is_as_likely_to_be_held_out():
    held = Held(np.tile(np.arange(10), 20_000), np.full(20_000, 10))
    _, valid, test = every_client(None, held, test=0.2, valid=0.1, seed=5)
    for part, share in ((valid, 0.1), (test, 0.2)):
        often = np.bincount(part.index, minlength=10) / 20_000
        np.testing.assert_allclose(often, share, atol=5 * np.sqrt(share * (1 - share) / 20_000))


def test_a_client_does_not_depend_on_the_others():
    few = every(None, [np.arange(20), np.arange(20, 50)], test=0.2, valid=0.0, seed=3)
    many = every(None, [np.arange(20), np.arange(60, 63), np.arange(5)], test=0.2, valid=0.0, seed=3)
    np.testing.assert_array_equal(few[2][0], many[2][0])
    other = every(None, [np.arange(20)], test=0.2, valid=0.0, seed=4)
    assert set(few[2][0]) != set(other[2][0])


def test_fractions_may_differ_by_client():
    parts = [np.arange(10), np.arange(10, 20)]
    train, valid, test = every(None, parts, test=np.array([0.0, 0.5]), valid=0.1, seed=0)
    assert [len(p) for p in train + valid + test] == [9, 4, 1, 1, 0, 5]


def test_streams_are_apart():
    draws = [
        generator(5, "a"),
        generator(5, "b"),
        generator(6, "a"),
        generator(5, "a", 0),
        generator(5, "a", 1),
    ]
    values = [rng.random() for rng in draws[:3]] + [draws[4].random()]
    assert len(set(values)) == 4
    assert generator(5, "a").random() == values[0]


@pytest.mark.parametrize(
    ("valid", "test", "error", "message"),
    [
        (0.0, 1.0, ValueError, "test must be >= 0 and < 1, got 1.0"),
        (-0.1, 0.2, ValueError, "valid must be >= 0 and < 1, got -0.1"),
        (0.0, float("nan"), ValueError, "test must be >= 0 and < 1, got nan"),
        (0.5, 0.5, ValueError, "valid \\+ test must be < 1, got 0.5 \\+ 0.5: leave rows"),
        (0.0, "0.2", TypeError, "test must be a number, got '0.2'"),
        (True, 0.2, TypeError, "valid must be a number, got True"),
    ],
)
def test_bad_fractions(valid, test, error, message):
    with pytest.raises(error, match=message):
        cut(None, np.arange(5), valid, test)
    with pytest.raises(error, match=message):
        every(None, [np.arange(5)], test=test, valid=valid, seed=0)


def test_bad_seeds():
    with pytest.raises(ValueError, match="seed must be >= 0, got -1"):
        every(None, [np.arange(5)], test=0.0, valid=0.0, seed=-1)
    with pytest.raises(TypeError, match=r"seed must be a whole number, got 0.5"):
        every(None, [np.arange(5)], test=0.2, valid=0.0, seed=0.5)


def test_labels_of_one_row_each():
    labels = np.arange(40)
    assert [len(part) for part in cut(labels, labels, 0.3, 0.25)] == [18, 12, 10]
