"""HDF5 files in the layout of TFF's simulation data sets."""

import re

import h5py
import numpy as np
import pytest
from alike import equal

from fedjax_het.construct import from_clients
from fedjax_het.datasets import from_tff_hdf5
from fedjax_het.frames import Names

SIZES = {"f1_00": 5, "f0_01": 4, "f2_07": 6}


def digits(sizes, seed=0):
    """Federated EMNIST: float32 pixels, int32 labels."""
    rng = np.random.default_rng(seed)
    return {
        client: {"pixels": rng.random((n, 4, 4), np.float32), "label": rng.integers(0, 10, n, np.int32)}
        for client, n in sizes.items()
    }


def write(path, clients):
    with h5py.File(path, "w") as file:
        examples = file.create_group("examples")
        for client, fields in clients.items():
            group = examples.create_group(client)
            for field, values in fields.items():
                group.create_dataset(field, data=values)
    return path


def pairs(clients, x="pixels", y="label"):
    return {client: (clients[client][x], clients[client][y]) for client in sorted(clients)}


def test_one_file_is_cut(tmp_path):
    clients = digits(SIZES)
    path = write(tmp_path / "fed_emnist_digitsonly_train.h5", clients)
    federation, names = from_tff_hdf5(path, 0.25, valid=0.25, seed=2, num_classes=10, name="emnist")
    assert names == Names(("f0_01", "f1_00", "f2_07"), (), ())
    expected = from_clients(pairs(clients), test=0.25, valid=0.25, seed=2, num_classes=10, name="emnist")
    equal(federation, expected)


def test_a_train_and_a_test_file(tmp_path):
    train, test = digits(SIZES), digits({"f0_01": 2, "f2_07": 1}, seed=1)
    federation, names = from_tff_hdf5(
        str(write(tmp_path / "train.h5", train)), str(write(tmp_path / "test.h5", test))
    )
    held = pairs(test)
    expected = {
        client: {"train": pair} | ({"test": held[client]} if client in held else {})
        for client, pair in pairs(train).items()
    }
    equal(federation, from_clients(expected, test=0, name="tff"))
    assert int(federation.test.size[0, names.client("f1_00")]) == 0


def test_other_fields(tmp_path):
    """CIFAR-100: uint8 images, a label, a coarse label."""
    rng = np.random.default_rng(0)
    clients = {
        str(k): {
            "image": rng.integers(0, 256, (n, 4, 4, 3), np.uint8),
            "label": rng.integers(0, 100, n),
            "coarse_label": rng.integers(0, 20, n),
        }
        for k, n in enumerate((3, 4))
    }
    path = write(tmp_path / "fed_cifar100_train.h5", clients)
    federation, _ = from_tff_hdf5(path, x="image", y="coarse_label", num_classes=20)
    equal(federation, from_clients(pairs(clients, "image", "coarse_label"), num_classes=20, name="tff"))
    assert federation.x.dtype == np.uint8 and federation.spec.pool.scale == 1 / 255


def test_an_empty_client(tmp_path):
    federation, names = from_tff_hdf5(write(tmp_path / "a.h5", digits({"a": 3, "b": 0})))
    assert names.clients == ("a", "b") and int(federation.train.size[0, 1]) == 0


def client(**fields):
    return {"f0": {"pixels": np.zeros((2, 3), np.float32), "label": np.zeros(2, np.int32)} | fields}


BAD = {
    "other field": (
        {"x": "pixel"},
        client(),
        ValueError,
        "x must be one of the names below, got 'pixel': did you mean 'pixels'?",
    ),
    "other label": ({"y": "digit"}, client(), ValueError, "y must be one of the names below, got 'digit'"),
    "lengths": (
        {},
        client(label=np.zeros(3, np.int32)),
        ValueError,
        "must have one row of 'pixels' for each of 'label', got shapes (2, 3) and (3,)",
    ),
    "a number": (
        {},
        client(label=1),
        ValueError,
        "must have one row of 'pixels' for each of 'label', got shapes (2, 3) and ()",
    ),
    "text": (
        {"x": "snippets"},
        client(snippets=["to be", "or not"]),
        TypeError,
        "field 'snippets' must hold numbers, got ",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_clients_are_refused(case, tmp_path):
    options, made, error, message = BAD[case]
    path = write(tmp_path / "bad.h5", made)
    with pytest.raises(error, match=re.escape(f"{path}: client 'f0'") + ".*" + re.escape(message)):
        from_tff_hdf5(path, **options)


def test_a_group_for_a_field_is_refused(tmp_path):
    path = write(tmp_path / "deep.h5", client())
    with h5py.File(path, "a") as file:
        file["examples/f0/more/deeper"] = 1
    with pytest.raises(TypeError, match="client 'f0': field 'more' must hold numbers"):
        from_tff_hdf5(path, x="more")


def test_an_array_for_a_client_is_refused(tmp_path):
    path = write(tmp_path / "flat.h5", client())
    with h5py.File(path, "a") as file:
        file["examples/f1"] = np.zeros(3)
    with pytest.raises(ValueError, match="client 'f1': x must be one of the names below, got 'pixels'"):
        from_tff_hdf5(path)


# fields of the second client, what the message says after file and client, options
UNSOUND = {
    "nan": ({"pixels": np.full((2, 3), np.nan, np.float32)}, ": x must be finite, got 6 NaN", {}),
    "label below 0": ({"label": np.array([0, -1], np.int32)}, " must have labels >= 0, got -1: ", {}),
    "label above": ({"label": np.array([0, 7])}, ": y must hold labels in 0..4, got 0..7", {"num_classes": 5}),
    "width": ({"pixels": np.zeros((2, 4), np.float32)}, ": x must have rows of shape (3,) as client 'f0'", {}),
    "type": ({"pixels": np.zeros((2, 3), np.uint8)}, ": x must have dtype float32 as client 'f0'", {}),
    "float labels": ({"label": np.zeros(2, np.float32)}, ": y must hold integer labels for task", {}),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_numbers_are_refused_with_file_and_client(case, tmp_path):
    changed, message, options = UNSOUND[case]
    path = write(tmp_path / "bad.h5", client() | {"f1": client()["f0"] | changed})
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(f"{path}: client 'f1'{message}")):
        from_tff_hdf5(path, **options)
    sound = write(tmp_path / "train.h5", client() | {"f1": client()["f0"]})
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(f"{path}: client 'f1'{message}")):
        from_tff_hdf5(sound, path, **options)


def test_clients_without_rows_are_refused(tmp_path):
    path = write(tmp_path / "empty.h5", digits({"a": 0, "b": 0}))
    with pytest.raises(
        ValueError, match=re.escape(f"train must hold rows, got none for the clients of {path}: ")
    ):
        from_tff_hdf5(path)


def test_a_broken_link_is_refused(tmp_path):
    path = write(tmp_path / "links.h5", client())
    with h5py.File(path, "a") as file:
        file["examples/f0/image"] = h5py.SoftLink("/nowhere")
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: client 'f0': field 'image' must hold data, got a broken link")
    ):
        from_tff_hdf5(path, x="image")
    with h5py.File(path, "a") as file:
        file["examples/f1"] = h5py.SoftLink("/nowhere")
    with pytest.raises(ValueError, match=re.escape(f"{path}: client 'f1': x must be one of the names")):
        from_tff_hdf5(path)


def test_a_type_for_a_field_is_refused(tmp_path):
    path = write(tmp_path / "type.h5", client())
    with h5py.File(path, "a") as file:
        file["examples/f0/kind"] = np.dtype(np.float32)
    with pytest.raises(TypeError, match=re.escape(f"{path}: client 'f0': field 'kind' must hold numbers")):
        from_tff_hdf5(path, x="kind")


def test_damaged_data_are_refused(tmp_path):
    """A compressed field with bytes overwritten: the file opens, the field does not."""
    path = write(tmp_path / "damaged.h5", client())
    with h5py.File(path, "a") as file:
        field = file["examples/f0"].create_dataset(
            "image", data=np.arange(2000.0).reshape(2, -1), compression="gzip"
        )
        start = field.id.get_chunk_info(0).byte_offset
    held = bytearray(path.read_bytes())
    held[start + 20 : start + 60] = bytes(40)
    path.write_bytes(held)
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: client 'f0': field 'image' must be readable, got ")
    ):
        from_tff_hdf5(path, x="image")


def test_foreign_files_are_refused(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["weights"] = 1.0
    with pytest.raises(
        ValueError,
        match=re.escape(f"{other} must hold a group 'examples' with one group a client, got ['weights']"),
    ):
        from_tff_hdf5(other)
    with h5py.File(other, "w") as file:
        file.create_group("examples")
    with pytest.raises(ValueError, match="must hold a group 'examples'"):
        from_tff_hdf5(other)
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(ValueError, match=re.escape(f"{text} must be an HDF5 file, got ")):
        from_tff_hdf5(text)
    with pytest.raises(FileNotFoundError, match="train must name an HDF5 file"):
        from_tff_hdf5(tmp_path / "nowhere.h5")


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "cut.h5", digits(SIZES))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=re.escape(f"{path} must be an HDF5 file, got ")):
        from_tff_hdf5(path)


def test_other_clients_in_the_test_file_are_refused(tmp_path):
    train, test = write(tmp_path / "a.h5", digits(SIZES)), write(tmp_path / "b.h5", digits({"new": 2}))
    with pytest.raises(ValueError, match=re.escape(f"got 'new' and 0 more in {test}")):
        from_tff_hdf5(train, test)
