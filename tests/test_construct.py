"""Federations from lists, groups and clients' own data; pooling; every refusal."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedjax_het.construct import assemble, from_clients, from_groups, from_index_lists, partition, pooled
from fedjax_het.federation import SPLITS, Transform
from fedjax_het.pool import pool

quick = settings(max_examples=25, derandomize=True, deadline=None)


def rows_of(federation, split, client):
    held = federation.rows(split)
    start, size = int(held.offset[0, client]), int(held.size[0, client])
    return np.asarray(held.index)[start : start + size]


def all_rows(federation):
    return [[rows_of(federation, split, k) for split in SPLITS] for k in range(federation.num_clients)]


def seen(federation, split, client):
    """A client's (x, y) as local work would take them."""
    located = federation.locate(split, jnp.zeros((), jnp.int32), jnp.asarray(client, jnp.int32))
    data = federation.data(split, located)
    batch = data.take(jnp.arange(int(data.size), dtype=jnp.int32))
    return np.asarray(batch.x), np.asarray(batch.y)


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    return pool(rng.normal(size=(40, 3)), rng.integers(0, 4, 40), num_classes=4, name="small")


def test_assemble_stores_ragged_rows(source):
    federation = assemble(
        source, [[3, 1], [], np.array([7])], test=[[], [5, 6, 9], []], truth={"cluster": [0, 1, 1]}
    )
    assert federation.num_clients == 3
    assert federation.spec.capacity == (2, 0, 3)
    assert federation.spec.phases == 1
    np.testing.assert_array_equal(federation.train.index, [3, 1, 7])
    np.testing.assert_array_equal(federation.train.offset, [[0, 2, 2]])
    np.testing.assert_array_equal(federation.train.size, [[2, 0, 1]])
    assert {leaf.dtype.name for leaf in jax.tree.leaves((federation.train, federation.test))} == {"int32"}
    np.testing.assert_array_equal(federation.truth["cluster"], [0, 1, 1])
    np.testing.assert_array_equal(seen(federation, "train", 0)[0], source.x[np.array([3, 1])])


def test_a_split_that_nobody_has_can_be_taken_from(source):
    federation = assemble(source, [[0], [1]])
    located = federation.locate("valid", jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))
    batch = federation.data("valid", located).take(jnp.arange(4, dtype=jnp.int32))
    np.testing.assert_array_equal(batch.weight, np.zeros(4))


def test_phases_come_from_the_transforms(source):
    shift = Transform(jnp.zeros((3, 2, 3)), lambda x, y, a, row: (x + a[None], y))
    assert assemble(source, [[0], [1]], transforms=[shift]).spec.phases == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train": []}, ValueError, "train must list at least one client, got none"),
        ({"train": [[], []], "test": [[0], []]}, ValueError, "train must hold at least one row, got none .* 2"),
        (
            {"train": {0: [0]}},
            TypeError,
            "train must be a list of arrays .* got dict: pass list\\(train.values",
        ),
        ({"train": [0, 1, 2]}, TypeError, "train must be a list of arrays .* got int for client 0: pass one"),
        ({"train": np.arange(3)}, TypeError, "train must be a list of arrays .* got int64 for client 0"),
        ({"train": [[0]], "test": "a"}, TypeError, "test must be a list of arrays .* got str"),
        ({"train": [[0], [40]]}, ValueError, "train must hold row numbers in 0..39, got 40 for client 1"),
        ({"train": [[0], [], [1, -1]]}, ValueError, "in 0..39, got -1 for client 2"),
        (
            {"train": [[0.5]]},
            TypeError,
            "train must hold one-dimensional arrays of row numbers, got dtype float",
        ),
        ({"train": [np.ones(40, bool)]}, TypeError, "numpy.flatnonzero"),
        ({"train": [[0]], "test": [[1], [2]]}, ValueError, "test must list all 1 clients of train, got 2"),
        ({"train": [[0]], "truth": {"name": ["a"]}}, TypeError, "truth\\['name'\\] must hold numbers"),
        (
            {"train": [[0]], "transforms": [Transform(jnp.zeros((1, 2)), lambda x, y, a, row: (x, y))]},
            ValueError,
            "transforms must have arguments of shape \\[T, 1, ...\\], got \\(1, 2\\)",
        ),
        (
            {"train": [np.broadcast_to(np.int64(0), 2**31)]},
            ValueError,
            "train must hold at most 2147483647 rows, got 2147483648: .* several federations",
        ),
    ],
)
def test_assemble_refuses(source, arguments, error, message):
    with pytest.raises(error, match=message):
        assemble(source, **arguments)


def test_assemble_wants_a_pool():
    with pytest.raises(TypeError, match="pool must be a Pool, got tuple: build one"):
        assemble((np.zeros((3, 2)), np.zeros(3, int)), [[0]])
    with pytest.raises(TypeError, match="pool must be a Pool, got ndarray: build one"):
        partition(np.zeros((3, 2)), [[0]])


@quick
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 50))
def test_index_lists_keep_every_row_once(sizes, seed):
    assume(sum(sizes) > 0)
    total = sum(sizes) + 1
    order = np.random.default_rng(seed).permutation(total)
    parts = np.split(order[:-1], np.cumsum(sizes)[:-1])
    x, y = np.arange(total, dtype=float)[:, None], np.arange(total) % 3
    federation = from_index_lists(x, y, parts, valid=0.2, seed=seed)
    for part, splits in zip(parts, all_rows(federation)):
        assert sorted(np.concatenate(splits)) == sorted(part)
    again = from_index_lists(x, y, parts, valid=0.2, seed=seed)
    for a, b in zip(jax.tree.leaves(federation), jax.tree.leaves(again)):
        np.testing.assert_array_equal(a, b)


def test_rows_listed_twice(source):
    with pytest.raises(ValueError, match="row 2 by clients 0 and 1: pass replacement=True"):
        from_index_lists(source, None, [[1, 2], [3, 2]])
    with pytest.raises(ValueError, match="row 1 twice by client 0"):
        from_index_lists(source, None, [[1, 1], [3, 2]])
    federation = from_index_lists(source, None, [[1, 2], [3, 2]], replacement=True, test=0.0)
    np.testing.assert_array_equal(federation.train.index, [1, 2, 3, 2])


def test_index_lists_refuse(source):
    with pytest.raises(ValueError, match="train must hold at least one row"):
        from_index_lists(np.zeros((4, 1)), np.zeros(4, int), [[], []])
    with pytest.raises(TypeError, match=r"parts must be a list of arrays .* got dict"):
        from_index_lists(source, None, {"a": [0, 1]})
    with pytest.raises(TypeError, match=r"parts must be a list of arrays .* got int for client 0"):
        from_index_lists(source, None, [0, 1, 2])
    with pytest.raises(
        ValueError, match="test must be one number, or one for each of the 2 clients, got shape"
    ):
        from_index_lists(source, None, [[0], [1]], test=[0.1, 0.2, 0.3])
    with pytest.raises(TypeError, match=r"x must be a Pool, got Federation: pass federation.pool"):
        from_index_lists(assemble(source, [[0]]), None, [[0]])
    with pytest.raises(ValueError, match=r"y must be None when x is a Pool, got ndarray of shape \(40,\)"):
        from_index_lists(source, np.zeros(40, int), [[0]])


@pytest.mark.parametrize(
    "group",
    [
        np.array(["b", "a", "c", "a", "b", "a"]),
        np.array([5, -1, 7, -1, 5, -1]),
        ["b", "a", "c", "a", "b", "a"],
        [(1, 2), (0, 9), (3, 0), (0, 9), (1, 2), (0, 9)],
    ],
)
def test_groups_in_sorted_order(group):
    federation = from_groups(np.eye(6), np.arange(6) % 2, group, test=0.0, name="groups")
    assert [rows_of(federation, "train", k).tolist() for k in range(3)] == [[1, 3, 5], [0, 4], [2]]
    assert federation.spec.pool.name == "groups"


def test_groups_refuse(source):
    with pytest.raises(
        ValueError, match="group must have one value for each of the 40 rows, got shape \\(3,\\)"
    ):
        from_groups(source, None, [1, 2, 3])
    with pytest.raises(ValueError, match="group must hold no NaN, got 1"):
        from_groups(source, None, np.r_[np.zeros(39), np.nan])
    with pytest.raises(TypeError, match="group must hold values that can be sorted"):
        from_groups(source, None, [0, "a"] * 20)
    with pytest.raises(ValueError, match="y must be None when x is a Pool"):
        from_groups(source, np.zeros(40, int), np.zeros(40))
    with pytest.raises(ValueError, match="x and y must have one row an example each, got 3 rows of x and 2"):
        from_groups(np.zeros((3, 1)), [0, 1], [0, 0, 1])


def client(rows, start=0, classes=2):
    return np.arange(start, start + rows, dtype=float)[:, None], np.arange(rows) % classes


def test_clients_in_every_form():
    federation = from_clients(
        {
            "pair": client(10),
            "columns": dict(zip("xy", client(10, 100))),
            "own test": {"train": client(10, 200), "test": client(3, 300)},
            "all three": {"train": client(4, 400), "valid": client(2, 500), "test": client(1, 600)},
            "no test": {"train": client(10, 700), "test": client(0)},
            "test only": {"test": client(5, 800)},
            "empty": ([], []),
        },
        valid=0.1,
    )
    sizes = [[len(rows) for rows in splits] for splits in all_rows(federation)]
    assert sizes == [[7, 1, 2], [7, 1, 2], [9, 1, 3], [4, 2, 1], [9, 1, 0], [0, 0, 5], [0, 0, 0]]
    np.testing.assert_array_equal(seen(federation, "test", 2)[0][:, 0], [300, 301, 302])
    np.testing.assert_array_equal(seen(federation, "valid", 3)[1], [0, 1])
    both = np.concatenate([seen(federation, split, 1)[0][:, 0] for split in SPLITS])
    assert sorted(both) == list(range(100, 110))


def test_clients_from_a_list_with_facts():
    federation = from_clients([client(5), client(5)], test=0.0, task="regression", name="mine")
    assert federation.spec.pool.task == "regression" and federation.spec.pool.name == "mine"
    assert federation.y.dtype == jnp.result_type(float)
    images = np.full((4, 2, 2), 255, np.uint8)
    federation = from_clients([(images, np.arange(4))] * 3, test=0.0)
    np.testing.assert_array_equal(seen(federation, "train", 2)[0], np.ones((4, 2, 2)))


good = client(4)


@pytest.mark.parametrize(
    ("clients", "error", "message"),
    [
        ([], ValueError, "clients must list at least one client, got none"),
        ([([], []), ([], [])], ValueError, "clients must hold rows, got 2 empty clients"),
        ({"a": good, "b": good[0]}, TypeError, "client 'b' train must be \\(x, y\\), got ndarray"),
        ({"a": good, "b": (good[0], [0, 1])}, ValueError, "client 'b' train must have one row of x for each"),
        ([good, {"tarin": good}], ValueError, "client 1 must have keys .* got \\['tarin'\\]"),
        ([good, {"x": good[0]}], ValueError, "client 1 must have keys .* got \\['x'\\]"),
        (
            {"a": good, "b": {"test": (np.zeros((4, 2)), good[1])}},
            ValueError,
            "client 'b' test: x must have rows of shape \\(1,\\) as client 'a' train has, got \\(2,\\)",
        ),
        (
            [good, (good[0].astype(np.uint8), good[1])],
            TypeError,
            "client 1 train: x must have dtype float64 as client 0 train has, got uint8",
        ),
        ([good, (good[0], good[1] + 0.5)], TypeError, "client 1 train: y must hold integer labels"),
        ([good, (good[0] * np.nan, good[1])], ValueError, "client 1 train: x must be finite, got 4 NaN"),
        ([good, (good[0], good[1] - 1)], ValueError, "client 1 train: y must hold labels >= 0, got -1"),
    ],
)
def test_clients_refuse_and_name_the_client(clients, error, message):
    with pytest.raises(error, match=message):
        from_clients(clients)


def test_labels_beyond_num_classes_name_the_client():
    with pytest.raises(ValueError, match=r"client 'b' train: y must hold labels in 0..1, got 0..2"):
        from_clients({"a": good, "b": client(4, classes=3)}, num_classes=2)


def test_a_fraction_for_each_client():
    federation = from_clients([client(10), {"train": client(10), "test": client(1)}], test=[0.5, 0.9])
    assert federation.test.size[0].tolist() == [5, 1] and federation.train.size[0].tolist() == [5, 10]
    with pytest.raises(ValueError, match=r"test must be one number, or one for each of the 2 clients, got .*3"):
        from_clients([client(4), client(4)], test=np.array([0.1, 0.2, 0.3]))
    with pytest.raises(TypeError, match=r"valid must be a number, got '0.1'"):
        from_clients([client(4)], valid="0.1")
    with pytest.raises(TypeError, match="clients must be a list or a dict of data sets, got int"):
        from_clients(3)
    with pytest.raises(ValueError, match="train must hold at least one row"):
        from_clients([{"test": client(4)}])


X, Y = np.zeros((3, 2)), np.array([0, 1, 2])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("x", "y", "facts", "error", "message"),
    [
        (X + 1e39, Y, {}, ValueError, "x must be finite as float32, got 6 values .* row 0: rescale them"),
        (X, Y * 1e39, {"task": "regression"}, ValueError, "y must be finite as float32, got 2 .* row 1"),
        (X, Y * np.nan, {"task": "regression"}, ValueError, "y must be finite, got 3 NaN or infinite"),
        (X, Y + 2**40, {}, ValueError, "y must hold labels that int32 can hold, got 1099511627776"),
        (X.astype(int) + 2**40, Y, {}, ValueError, "x must hold integers that int32 can hold"),
        (Y + 2**40, Y, {"task": "tokens"}, ValueError, "x must hold token numbers that int32 can hold"),
        (Y - 1, Y, {"task": "tokens"}, ValueError, r"x must hold tokens >= 0, got -1"),
        (Y + 1, Y, {"task": "tokens", "num_classes": 3}, ValueError, r"x must hold tokens in 0..2, got 1..3"),
        (X, Y, {"num_classes": "3"}, TypeError, "num_classes must be a whole number, got '3': it is"),
        (X, Y, {"num_classes": 3.0}, TypeError, "num_classes must be a whole number, got 3.0: it is"),
        (X, Y, {"num_classes": True}, TypeError, "num_classes must be a whole number, got True: it is"),
        (X, Y, {"num_classes": 0}, ValueError, "num_classes must be >= 1, got 0: it is"),
        (X, Y, {"num_classes": 3, "task": "regression"}, ValueError, "num_classes must be None for task 'reg"),
        (X, Y, {"scale": 2.0}, ValueError, "scale must be None for float x, got 2.0: scale the features"),
        (Y, Y, {"scale": 2.0, "task": "tokens"}, ValueError, "scale must be None for tokens, got 2.0"),
        (Y, Y, {"scale": 0}, ValueError, "scale must be > 0, got 0: it is the factor"),
        (Y, Y, {"scale": np.inf}, ValueError, "scale must be finite, got inf: it is the factor"),
        (Y, Y, {"scale": "1"}, TypeError, "scale must be a number, got '1': it is the factor"),
        (Y, Y, {"scale": [1.0, 2.0]}, TypeError, "scale must be one number, got \\[1.0, 2.0\\]: it is"),
        (X, np.eye(3, dtype=int), {}, ValueError, r"y must hold one label a row, got one-hot .* y.argmax\(1\)"),
        (X, np.eye(3), {}, ValueError, r"y must hold one label a row, got one-hot .* y.argmax\(1\)"),
    ],
)
def test_a_pool_refuses(x, y, facts, error, message):
    with pytest.raises(error, match=message):
        pool(x, y, **facts)


def test_a_pool_takes():
    assert pool(Y + 4, Y, task="tokens").spec.num_classes == 7
    assert pool(Y, Y + 4, task="tokens").spec.num_classes == 7
    assert pool(Y, Y, scale=np.float32(0.5)).spec.scale == 0.5
    assert pool(Y.astype(np.uint8), Y).spec.scale == 1 / 255
    assert pool(X, np.ones((3, 1), int)).spec.target_shape == (1,)
    assert pool(X, np.eye(3), task="regression").spec.num_classes is None


def test_pooled_wants_a_federation(source):
    with pytest.raises(
        TypeError, match="federation must be a Federation, got Pool: build one with from_clients"
    ):
        pooled(source)


def test_pooled_owns_every_row(source):
    parts = [[3, 1, 7, 8, 20], [], [5, 9, 30]]
    federation = partition(source, [np.array(part, int) for part in parts], test=0.3, valid=0.2, seed=1)
    one = pooled(federation)
    assert one.num_clients == 1 and one.truth == {}
    for split, *held in zip(SPLITS, *all_rows(federation)):
        np.testing.assert_array_equal(rows_of(one, split, 0), np.concatenate(held))
    assert one.x is federation.x


def test_pooled_reads_offsets_rather_than_the_index(source):
    federation = assemble(source, [[1, 2], [3, 4]])
    swapped = dataclasses.replace(
        federation.train, offset=jnp.array([[2, 0], [0, 2]]), size=jnp.array([[1, 2], [2, 2]])
    )
    one = pooled(dataclasses.replace(federation, train=swapped))
    np.testing.assert_array_equal(rows_of(one, "train", 0), [3, 1, 2])


@pytest.mark.parametrize("group", [65536, 3])
def test_pooled_carries_out_transforms(monkeypatch, group):
    monkeypatch.setattr("fedjax_het.pooling.GROUP", group)
    images = np.arange(20, dtype=np.uint8).reshape(10, 2)
    source = pool(images, np.arange(10) % 2, num_classes=2)
    shift = Transform(jnp.array([[1.0, 2.0, 3.0]]), lambda x, y, a, row: (x + a, y))
    flip = Transform(jnp.array([[0, 1, 0]], jnp.int32), lambda x, y, a, row: (x, (y + a) % 2))
    federation = assemble(source, [[0, 4], [1], [2, 3]], test=[[5], [], [6]], transforms=(shift, flip))
    one = pooled(federation)
    assert one.transforms == () and one.spec.capacity == (5, 0, 2)
    for split in ("train", "test"):
        x, y = zip(*(seen(federation, split, k) for k in range(3)))
        np.testing.assert_array_equal(seen(one, split, 0)[0], np.concatenate(x))
        np.testing.assert_array_equal(seen(one, split, 0)[1], np.concatenate(y))
