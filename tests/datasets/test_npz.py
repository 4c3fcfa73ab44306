"""Pools and federations survive a file; whatever is wrong with a file is named."""

import dataclasses
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.assembly import assemble
from fedjax_het.construct import from_clients
from fedjax_het.datasets import load_npz, save_npz, synthetic
from fedjax_het.datasets import npz as module
from fedjax_het.federation import Federation, FederationSpec, Rows, Transform
from fedjax_het.pool import Pool, pool


def rng():
    """The same numbers at each call."""
    return np.random.default_rng(0)


POOLS = {
    "floats": lambda: pool(rng().normal(size=(7, 3)), [0, 1, 2, 0, 1, 2, 0], num_classes=5, name="naïve"),
    "images": lambda: pool(rng().integers(0, 256, (4, 5, 5), dtype=np.uint8), [0, 1, 1, 0]),
    "scaled": lambda: pool(np.arange(6).reshape(3, 2), [0, 1, 1], scale=0.1),
    "booleans": lambda: pool(np.eye(3, dtype=bool), [0, 1, 1]),
    "regression": lambda: pool(rng().normal(size=(4, 2)), rng().normal(size=(4, 3)), task="regression"),
    "tokens": lambda: pool(rng().integers(0, 9, (4, 6)), rng().integers(0, 9, (4, 6)), task="tokens"),
}


def ragged():
    """Five clients, one without rows and one without test rows."""
    source = POOLS["floats"]()
    parts = [[6, 0], [], [3], [5, 4, 1], [2]]
    truth = {"cluster": np.array([0, 1, 1, 0, 2]), "a/b.npy": np.zeros((5, 2)), "file": np.arange(5.0)}
    return assemble(source, parts, test=[[1], [], [], [0, 2], [4]], truth=truth)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b), "static facts"
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def rewritten(path, **changed):
    """The file with some arrays replaced, left out (None) or added."""
    with np.load(path, allow_pickle=True) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture
def saved(tmp_path):
    return save_npz(tmp_path / "five.npz", ragged())


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_comes_back(kind, tmp_path):
    source = POOLS[kind]()
    path = save_npz(tmp_path / "pool.npz", source)
    assert isinstance(load_npz(path), Pool)
    equal(load_npz(str(path)), source)


@pytest.mark.parametrize("make", [ragged, lambda: synthetic(clients=4, sizes=[3, 0, 9, 4], valid=0.2)])
def test_a_federation_comes_back(make, tmp_path):
    equal(load_npz(save_npz(tmp_path / "all.npz", make())), make())


def test_double_precision_comes_back(tmp_path, x64):
    source = POOLS["floats"]()
    assert source.x.dtype == np.float64
    equal(load_npz(save_npz(tmp_path / "pool.npz", source)), source)


def test_rows_that_change_over_time_come_back(tmp_path):
    source = POOLS["floats"]()
    rows = Rows(
        jnp.array([3, 1, 2, 0], jnp.int32),
        jnp.array([[0, 1], [2, 0]], jnp.int32),
        jnp.array([[1, 2], [2, 1]], jnp.int32),
    )
    spec = FederationSpec(source.spec, 2, 2, (8, 4, 2))
    federation = Federation(source.x, source.y, rows, rows, rows, (), None, {}, spec)
    equal(load_npz(save_npz(tmp_path / "moving.npz", federation)), federation)


def test_nothing_is_pickled_and_numpy_reads_it(saved):
    with np.load(saved, allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["pool"]["name"] == "naïve"
        np.testing.assert_array_equal(file["train/size"], [[2, 0, 1, 3, 1]])


def test_functions_are_refused_with_the_way_out(tmp_path):
    federation = ragged()
    shift = Transform(jnp.zeros((1, 5, 3)), lambda x, y, a, row: (x + a, y))
    moving = dataclasses.replace(federation, transforms=(shift,), schedule=jax.tree_util.Partial(jnp.sign))
    with pytest.raises(ValueError, match=r"data must have no transforms and schedule .*replace\(federation"):
        save_npz(tmp_path / "moving.npz", moving)
    assert not list(tmp_path.iterdir())
    still = dataclasses.replace(moving, transforms=(), schedule=None)
    equal(load_npz(save_npz(tmp_path / "still.npz", still)), federation)


def test_what_npz_cannot_hold(tmp_path):
    source = POOLS["floats"]()
    with pytest.raises(TypeError, match=r"data must be a Pool or a Federation, got tuple: make one"):
        save_npz(tmp_path / "a.npz", (source.x, source.y))
    with pytest.raises(
        TypeError, match=r"x must hold integers, booleans or floats that npz knows, got .*bfloat16"
    ):
        save_npz(tmp_path / "a.npz", dataclasses.replace(source, x=source.x.astype(jnp.bfloat16)))
    with pytest.raises(TypeError, match=r"truth/key must hold integers"):
        save_npz(
            tmp_path / "a.npz",
            dataclasses.replace(ragged(), truth={"key": jax.random.split(jax.random.key(0))}),
        )
    with pytest.raises(
        ValueError, match=r"path must lie in a folder that exists, got .*: create .*nowhere' first"
    ):
        save_npz(tmp_path / "nowhere" / "a.npz", source)
    assert not list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez", full)
    with pytest.raises(OSError, match=r"No space left") as caught:
        save_npz(saved, ragged())
    assert "five.npz was not written; a file that was there is untouched" in caught.value.__notes__[0]
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["five.npz"]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must name a file, got .*none.npz': write one with"):
        load_npz(tmp_path / "none.npz")


@pytest.mark.parametrize("keep", [10, 0.5, -1, -30])
def test_a_truncated_file_is_named(saved, keep):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(
        ValueError, match=r"five.npz must be a whole npz file, got one that is cut off or damaged"
    ):
        load_npz(saved)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04N."])
def test_a_file_of_another_kind(saved, content):
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"five.npz must be a whole npz file, got something else: pass a file"):
        load_npz(saved)


def test_every_changed_byte_of_the_data_is_noticed(saved):
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        entry = archive.getinfo("x.npy")
    start = whole.index(b"\x93NUMPY", entry.header_offset)
    for place in range(start, start + entry.file_size, 5):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"five.npz: array 'x' must .*: .*copy it again"):
            load_npz(saved)


def test_a_foreign_npz_says_what_to_do(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, features=np.zeros((2, 2)), labels=np.array([object()]))
    with pytest.raises(
        ValueError, match=r"mine.npz must be written by .*\['features', 'labels'\]: .* save fh.pool"
    ):
        load_npz(path)


def about(**changed):
    facts = {"name": "five", "task": "classification", "num_classes": 5, "scale": None}
    whole = {"format": 1, "pool": facts, "truth": [], "federation": {"phases": 1, "capacity": [3, 0, 2]}}
    return np.array(json.dumps(whole | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": None}, "must hold the array 'y', got none: save it again"),
        ({"test/size": None}, "must hold the array 'test/size', got none"),
        (
            {"x": np.array([{}, {}])},
            "array 'x' must be a plain array, got pickled objects, which are never read",
        ),
        ({"x": np.full((7, 3), np.nan)}, "x must be finite, got 21 NaN"),
        ({"y": np.zeros(6, int)}, "x and y must have one row an example each, got 7 rows of x and 6 of y"),
        ({"about": np.array("[]")}, "array 'about' must hold the JSON text .* got '\\[\\]': save it again"),
        ({"about": about(format=2)}, "must have format 1 at most, got 2: .* newer fedjax_het"),
        ({"about": about(pool={"name": "five"})}, "'about' must hold all static facts, got .*'task'"),
        ({"about": about(federation=[])}, "'about' must hold all static facts, got a missing or wrong one"),
        ({"about": about(truth=["gone"])}, "must hold the array 'truth/gone', got none"),
        (
            {"about": about(federation={"phases": 1, "capacity": [2, 0, 2]})},
            "must leave room for .3, 0, 2. rows",
        ),
        ({"train/index": np.array([0, 1, 2, 3, 4, 5, 7])}, "train must point at rows 0..6 of the pool"),
        ({"test/offset": np.full((1, 5), 3)}, "test must point at rows 0..6 of the pool, got some outside"),
        ({"valid/size": np.zeros((1, 4), int)}, "valid must hold whole numbers index .R., .* and .1, 4.: save"),
        ({"train/index": np.zeros(7)}, "train must hold whole numbers index"),
        (
            {"train/size": np.zeros((1, 5), int)},
            "rows to train on, got .5, 5, 5. clients and at most 0 training",
        ),
    ],
)
def test_arrays_that_do_not_fit(saved, changed, message):
    rewritten(saved, **changed)
    with pytest.raises(ValueError, match=r"five.npz.*" + message):
        load_npz(saved)


def test_a_saved_federation_trains_to_the_same_bits(tmp_path):
    from fedjax_het import algorithms, local, models, simulate

    sizes = (8, 5, 12)
    federation = from_clients([(rng().normal(size=(n, 3)), rng().integers(0, 3, n)) for n in sizes])
    again = load_npz(save_npz(tmp_path / "three.npz", federation))
    algorithm = algorithms.fedavg(models.softmax(federation.pool), local.sgd(0.1, batch_size=4))
    runs = [simulate(algorithm, data, key=jax.random.key(0), rounds=2)[0] for data in (federation, again)]
    equal(*(run.server.params for run in runs))
