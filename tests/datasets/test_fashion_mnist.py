"""Fashion-MNIST's files: found, read, and refused when they are something else."""

import gzip
import importlib

import numpy as np
import pytest

from fedjax_het.datasets import fashion_mnist


def idx(array):
    lengths = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def write(folder, prefix, rows, seed):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, rows, dtype=np.uint8)
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return images, labels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDJAX_HET_DATA", str(tmp_path))
    module = importlib.import_module("fedjax_het.datasets.fashion_mnist")
    monkeypatch.setattr(module, "SYSTEM", str(tmp_path / "nowhere"))
    return tmp_path


@pytest.mark.parametrize("below", [".", "fashion-mnist"])
def test_files_are_read(folder, below):
    train, test = write(folder / below, "train", 7, 0), write(folder / below, "t10k", 3, 1)
    pool = fashion_mnist()
    assert pool.x.dtype == np.uint8 and pool.spec.scale == 1 / 255 and pool.spec.num_classes == 10
    np.testing.assert_array_equal(pool.x, train[0])
    np.testing.assert_array_equal(pool.labels, train[1])
    np.testing.assert_array_equal(fashion_mnist("test").x, test[0])
    np.testing.assert_array_equal(fashion_mnist("all").labels, np.concatenate([train[1], test[1]]))


def test_the_system_folder_comes_last(folder, monkeypatch):
    images, _ = write(folder / "nowhere", "train", 4, 2)
    np.testing.assert_array_equal(fashion_mnist().x, images)
    own, _ = write(folder, "train", 5, 3)
    np.testing.assert_array_equal(fashion_mnist().x, own)
    monkeypatch.delenv("FEDJAX_HET_DATA")
    np.testing.assert_array_equal(fashion_mnist().x, images)


def test_missing_files_say_how_to_get_them(folder):
    with pytest.raises(FileNotFoundError, match="install the Debian package dataset-fashion-mnist"):
        fashion_mnist("test")


def test_unknown_split(folder):
    with pytest.raises(
        ValueError, match="split must be one of the names below, got 'tset': did you mean 'test'"
    ):
        fashion_mnist("tset")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-9], "train-images-idx3-ubyte.gz must be a whole gzip file"),
        (lambda whole: b"not gzip at all", "train-images-idx3-ubyte.gz must be a whole gzip file"),
        (
            lambda whole: gzip.compress(gzip.decompress(whole)[:-1]),
            "must hold 5488 bytes for shape .7, 28, 28.",
        ),
        (
            lambda whole: gzip.compress(b"\0\0\x08\x01" + bytes(20)),
            "must begin as an idx file of 3-dim.* 00000801",
        ),
        (lambda whole: gzip.compress(b""), "must begin as an idx file"),
    ],
)
def test_damaged_files_are_named(folder, damage, message):
    write(folder, "train", 7, 0)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        fashion_mnist()


def test_images_and_labels_that_do_not_match(folder):
    write(folder, "train", 7, 0)
    write(folder / "other", "train", 6, 0)
    (folder / "other" / "train-labels-idx1-ubyte.gz").replace(folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(ValueError, match=r"must have a label for each image of .*, got 6 and 7"):
        fashion_mnist()
