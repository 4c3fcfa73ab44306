"""Pools and federations in one npz file, without pickle: a file that cannot run anything when it is read.

| array | what |
|---|---|
| about | JSON text: the format's number, what the rows are, the federation's static facts |
| x, y | the pool's features [M, ...] and targets [M, ...] |
| train/index, train/offset, train/size | `Rows` of a federation: int [R], [T, N], [T, N] |
| valid/..., test/... | the same for the other splits |
| truth/NAME | what was done to make the federation |
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require, short
from fedjax_het.federation import SPLITS, Federation, FederationSpec, Rows
from fedjax_het.pool import Pool, pool

__all__ = ["load_npz", "save_npz"]

FORMAT = 1
"""Raised when older readers would misread a file."""

PARTS = ("index", "offset", "size")
"""The arrays of `Rows` that are stored."""

Read = Callable[[str], np.ndarray]


def save_npz(path: str | os.PathLike[str], data: Pool | Federation) -> Path:
    """Write a pool or a federation; `load_npz` gives back equal arrays and equal static facts.

    The file is complete or not there: it is written under another name and renamed.

    Args:
        path: where; a file that is there is replaced.
        data: a Pool, or a Federation without transforms and schedule.

    Returns:
        The path.

    Raises:
        TypeError: neither of them, or arrays of a type that npz cannot hold (bfloat16, keys).
        ValueError: transforms or a schedule: they are functions, and a file of arrays holds none.
        OSError: the folder is not there, not writable, or full; a file that was there is untouched.
    """
    path = Path(path)
    if not isinstance(data, (Pool, Federation)):
        raise TypeError(
            f"data must be a Pool or a Federation, got {type(data).__name__}: make one with fh.pool(x, y), or "
            "fh.from_groups(x, y, group)"
        )
    source = data if isinstance(data, Pool) else data.pool
    spec = source.spec
    about: dict[str, Any] = {
        "format": FORMAT,
        "pool": {key: getattr(spec, key) for key in ("name", "task", "num_classes", "scale")},
    }
    arrays = {"x": source.x, "y": source.y}
    if isinstance(data, Federation):
        _without_functions(data)
        about["federation"] = {"phases": data.spec.phases, "capacity": data.spec.capacity}
        about["truth"] = list(data.truth)
        for split in SPLITS:
            rows = data.rows(split)  # which transforms they are seen through says nothing without transforms
            arrays |= {f"{split}/{part}": getattr(rows, part) for part in PARTS}
        arrays |= {f"truth/{name}": leaf for name, leaf in data.truth.items()}
    held: dict[str, Any] = {name: _storable(name, array) for name, array in arrays.items()}
    held["about"] = np.array(json.dumps(about))
    require(
        path.parent.is_dir(),
        f"path must lie in a folder that exists, got {str(path)!r}: create {str(path.parent)!r} first",
    )
    with _replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **held)
        file.flush()
        os.fsync(file.fileno())
    return path


def load_npz(path: str | os.PathLike[str]) -> Pool | Federation:
    """Read what `save_npz` wrote; nothing in the file is unpickled, and all of it is checked.

    Args:
        path: the file.

    Returns:
        A Pool or a Federation, whichever was saved. Floats have the default float type, as in any pool.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated, damaged or foreign, lacks an array, holds pickled objects, or its
            arrays do not fit each other. The message names the file and what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path must name a file, got {str(path)!r}: write one with fh.datasets.save_npz(path, pool)"
        )
    with _archive(path) as archive:

        def read(name: str) -> np.ndarray:
            return _member(path, archive, name)

        about = _about(path, archive)
        try:
            facts = {key: about["pool"][key] for key in ("name", "task", "num_classes", "scale")}
            clients = about.get("federation")
            if clients is None:
                return _pool(path, read, facts)
            capacity, phases, names = clients["capacity"], clients["phases"], about["truth"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: array 'about' must hold all static facts, got a missing or wrong one ({error}): "
                "save it again"
            ) from None
        source = _pool(path, read, facts)
        rows = [_rows(path, read, split, source.num_rows) for split in SPLITS]
        truth = {name: jnp.asarray(read(f"truth/{name}")) for name in names}
    counts = [split.size.shape[1] for split in rows]
    most = [int(split.size.max()) for split in rows]
    require(
        len(set(counts)) == 1 and most[0] > 0,
        f"{path} must have equally many clients in each split and rows to train on, got {counts} clients and "
        f"at most {most[0]} training rows: save it again",
    )
    fits = len(capacity) == 3 and all(have <= room for have, room in zip(most, capacity))
    require(
        fits and phases >= max(split.size.shape[0] for split in rows),
        f"{path}: array 'about' must leave room for {most} rows of a client, got capacity {capacity} and "
        f"{phases} phases: save it again",
    )
    spec = FederationSpec(source.spec, counts[0], phases, tuple(capacity))
    return Federation(source.x, source.y, *rows, transforms=(), schedule=None, truth=truth, spec=spec)


def _without_functions(federation: Federation) -> None:
    present = {"transforms": bool(federation.transforms), "schedule": federation.schedule is not None}
    held = [name for name, here in present.items() if here]
    require(
        not held,
        f"data must have no {' and '.join(held)} to be saved, got a Federation with them: they are functions, "
        "which npz cannot hold; save dataclasses.replace(federation, transforms=(), schedule=None), and put "
        "them back after loading",
    )


def _storable(name: str, array: Any) -> np.ndarray:
    try:
        held = np.asarray(array)
    except TypeError:  # typed keys
        held = np.asarray(None)
    if held.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must hold integers, booleans or floats that npz knows, got {short(array)}: cast it"
        )
    return held


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` if all goes well and removed if not."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        error.add_note(f"{path} was not written; a file that was there is untouched")
        raise


def _archive(path: Path) -> zipfile.ZipFile:
    with path.open("rb") as file:
        begins_well = file.read(4) == b"PK\x03\x04"
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        got = "one that is cut off or damaged" if begins_well else "something else"
        remedy = "copy it again" if begins_well else "pass a file written by fh.datasets.save_npz"
        raise ValueError(f"{path} must be a whole npz file, got {got}: {remedy}") from None


def _about(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """What the file says of itself."""
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    require(
        "about" in names,
        f"{path} must be written by fh.datasets.save_npz, got an npz file of {short(names)}: read its arrays "
        "with numpy.load, and save fh.pool(x, y) or fh.from_groups(x, y, group)",
    )
    text = str(_member(path, archive, "about"))
    try:
        about = json.loads(text)
        number = int(about["format"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{path}: array 'about' must hold the JSON text that fh.datasets.save_npz writes, got "
            f"{short(text)}: save it again"
        ) from None
    require(
        number <= FORMAT,
        f"{path} must have format {FORMAT} at most, got {number}: it was written by a newer fedjax_het, update",
    )
    return about


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, read to the end so that its checksum is compared."""
    try:
        with archive.open(f"{name}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            whole = not member.read(1)
    except KeyError:
        raise ValueError(f"{path} must hold the array {name!r}, got none: save it again") from None
    except (ValueError, EOFError, OSError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        objects = "allow_pickle" in str(error)
        got = "pickled objects, which are never read" if objects else str(error) or type(error).__name__
        remedy = "save numbers" if objects else "the file is damaged, copy it again"
        raise ValueError(f"{path}: array {name!r} must be a plain array, got {got}: {remedy}") from None
    require(
        whole, f"{path}: array {name!r} must end with its data, got more: the file is damaged, copy it again"
    )
    return array


def _pool(path: Path, read: Read, facts: dict[str, Any]) -> Pool:
    x, y = read("x"), read("y")
    try:
        return pool(x, y, **facts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _rows(path: Path, read: Read, split: str, num_rows: int) -> Rows:
    """The rows of one split, none of which may point outside."""
    index, offset, size = (read(f"{split}/{name}") for name in PARTS)
    shaped = index.ndim == 1 and offset.ndim == 2 and offset.shape == size.shape and min(offset.shape) > 0
    whole = all(array.dtype.kind in "iu" for array in (index, offset, size))
    require(
        shaped and whole and len(index) > 0,
        f"{path}: {split} must hold whole numbers index [R], offset [T, N] and size [T, N], got shapes "
        f"{index.shape}, {offset.shape} and {size.shape}: save it again",
    )
    ends = offset.astype(np.int64) + size
    inside = index.min() >= 0 and index.max() < num_rows
    require(
        bool(inside and offset.min() >= 0 and size.min() >= 0 and ends.max() <= len(index)),
        f"{path}: {split} must point at rows 0..{num_rows - 1} of the pool, got some outside: save it again",
    )
    return Rows(*(jnp.asarray(array, jnp.int32) for array in (index, offset, size)))
