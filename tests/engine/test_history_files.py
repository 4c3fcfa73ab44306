"""History files: what is written comes back, and damage is named."""

import json
import os

import numpy as np
import pytest
from engine.made import made, with_values

import fedjax_het as fh
from fedjax_het.engine import History
from fedjax_het.engine.files import ABOUT, arrays, parse


@pytest.mark.parametrize(
    "history", [made(), fh.stack([made(), made(seed=1)]), History({})], ids=["one", "stack", "empty"]
)
def test_round_trip_bit_for_bit(tmp_path, history):
    path = tmp_path / "history"  # no suffix is added
    history.save(path)
    back = History.load(path)
    assert back.same(history) and list(back) == list(history)
    assert back.interrupted == history.interrupted and back.notices == history.notices
    for name in history:
        assert back.dims(name) == history.dims(name) and back[name].dtype == history[name].dtype
    assert os.listdir(tmp_path) == ["history"]


def test_the_file_is_plain_numpy(tmp_path):
    made().save(tmp_path / "h.npz")
    with np.load(tmp_path / "h.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["global/accuracy"], made()["global/accuracy"])


def test_half_a_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "h.npz"
    made().save(path)

    def full(file, **held):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        made(seed=1).save(path)
    monkeypatch.undo()
    assert History.load(path).same(made()) and os.listdir(tmp_path) == ["h.npz"]


def test_objects_and_missing_folders_are_refused(tmp_path):
    objects = with_values(made(), cohort=np.full((6, 2), None))
    with pytest.raises(ValueError, match="got objects in 'cohort'"):
        objects.save(tmp_path / "h.npz")
    with pytest.raises(FileNotFoundError, match="path must lie in a folder that exists"):
        made().save(tmp_path / "missing" / "h.npz")
    assert os.listdir(tmp_path) == []


def test_damaged_files_are_named(tmp_path):
    """Truncated anywhere, or with bytes changed: the right history, or an error that names the file."""
    good, path = tmp_path / "good.npz", tmp_path / "bad.npz"
    history = made()
    history.save(good)
    content = good.read_bytes()
    rng = np.random.default_rng(0)
    caught = 0
    for trial in range(300):
        changed = bytearray(content)
        if trial % 3 == 0:
            changed = changed[: rng.integers(0, len(content))]
        else:
            for place in rng.integers(0, len(content), 1 + trial % 4):
                changed[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(bytes(changed))
        try:
            back = History.load(path)
        except ValueError as error:
            assert "bad.npz" in str(error)
            caught += 1
        else:
            assert back.same(history)
    assert caught > 150


def test_other_files_are_named(tmp_path):
    path = tmp_path / "other"
    for write in (
        lambda stream: stream.write(b"not an archive"),
        lambda stream: None,
        lambda stream: np.save(stream, np.zeros(3)),
        lambda stream: np.savez(stream, a=np.zeros(3)),
        lambda stream: np.savez(stream, a=np.array([None])),
    ):
        with open(path, "wb") as stream:
            write(stream)
        with pytest.raises(ValueError, match=r"path must be a file that History\.save wrote, got .*other"):
            History.load(path)
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "nowhere.npz")


def test_parts_that_are_missing_or_new():
    held = arrays(made())
    short = {name: value for name, value in held.items() if name != "cohort"}
    with pytest.raises(ValueError, match=r"without \['cohort'\]"):
        parse(short)
    with pytest.raises(ValueError, match=r"axes \('round', 'slot'\) for 'cohort', got shape \(3,\)"):
        parse(held | {"cohort": np.zeros(3)})
    about = json.loads(bytes(held[ABOUT])) | {"format": 99}
    with pytest.raises(ValueError, match="got format 99"):
        parse(held | {ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)})
