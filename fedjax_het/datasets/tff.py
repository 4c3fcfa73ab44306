"""TFF: federations from the HDF5 files of TensorFlow Federated's simulation data sets.

A file holds `examples/CLIENT/FIELD`: one group a client, one array a field, one row an example.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_het.check import known, require, short
from fedjax_het.datasets.named import Block, joined, sources
from fedjax_het.extras import need
from fedjax_het.federation import Federation
from fedjax_het.frames import Names

__all__ = ["from_tff_hdf5"]

Source = str | os.PathLike[str]

EXAMPLES = "examples"
"""The group that holds the clients."""


def from_tff_hdf5(
    train: Source,
    test: Source | float = 0.2,
    *,
    valid: Source | float = 0.0,
    x: str = "pixels",
    y: str = "label",
    seed: int = 0,
    task: str = "classification",
    num_classes: int | None = None,
    name: str = "tff",
    scale: float | None = None,
) -> tuple[Federation, Names]:
    """A federation with one client for each client of TFF's files.

    `federation, names = from_tff_hdf5("fed_emnist_train.h5", "fed_emnist_test.h5")`; for CIFAR-100 pass
    `x="image"`. Fields of text (Shakespeare, Stack Overflow) have to be numbered elsewhere. Needs h5py.

    Args:
        train: the file.
        test: the file of the test rows; or a fraction of each client's rows to hold out, stratified by label.
        valid: the same for validation.
        x: the field of the features.
        y: the field of the targets.
        seed: of the cut.
        task: see `pool`, as are the arguments below.
        num_classes: K; the largest label plus one if not given. A sample of a data set may lack the last.
        name: for tables and messages.
        scale: factor for integer features.

    Returns:
        (federation, names). Client k is `names.clients[k]`; they are sorted, as TFF's `client_ids` are.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        FileNotFoundError: no such file.
        TypeError: a field of text; the message names file and client.
        ValueError: a file that is not HDF5 or not TFF's, a client without the fields, fields of different
            lengths, a field that cannot be read, numbers that are not finite, labels below 0, a client with
            test rows only; the message names file and client. A train without rows. And see `from_clients`.

    Reference: `HDF5ClientData` of TensorFlow Federated, google-parfait/tensorflow-federated.
    """
    opened = sources(train, valid, test, (str, os.PathLike), task)
    splits = {split: _clients(split, Path(source), x, y) for split, source in opened.items()}
    facts = {"task": task, "num_classes": num_classes, "name": name, "scale": scale}
    return joined(splits, test=test, valid=valid, seed=seed, **facts)


def _clients(split: str, path: Path, x: str, y: str) -> dict[str, Block]:
    """The rows of each client in one file."""
    h5py = need("h5py", "tff")
    if not path.is_file():
        raise FileNotFoundError(
            f"{split} must name an HDF5 file, got {str(path)!r}: unpack the archive of TFF's data set"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} must be an HDF5 file, got {error}: copy it again") from None
    with file:
        examples = file.get(EXAMPLES)
        require(
            isinstance(examples, h5py.Group) and len(examples) > 0,
            f"{path} must hold a group {EXAMPLES!r} with one group a client, got {short(list(file))}: it is no "
            "file of TFF's",
        )
        return {client: _block(path, client, examples.get(client), x, y) for client in examples}


def _block(path: Path, client: str, group: Any, x: str, y: str) -> Block:
    """The rows of one client."""
    where = f"{path}: client {client!r}"
    fields = group if hasattr(group, "keys") else {}
    held = {}
    for part, name in (("x", x), ("y", y)):
        try:
            field: Any = fields[name]
        except KeyError:
            known(f"{where}: {part}", name, list(fields))
            raise ValueError(
                f"{where}: field {name!r} must hold data, got a broken link: copy it too"
            ) from None
        try:
            values = np.asarray(field[()] if hasattr(field, "shape") else None)
        except OSError as error:
            raise ValueError(
                f"{where}: field {name!r} must be readable, got {error}: copy the file again"
            ) from None
        if values.dtype.kind not in "biuf":
            raise TypeError(
                f"{where}: field {name!r} must hold numbers, got {field}: number the text, and pass arrays to "
                "fh.from_clients"
            )
        held[part] = values
    shapes = held["x"].shape, held["y"].shape
    require(
        min(map(len, shapes)) > 0 and shapes[0][0] == shapes[1][0],
        f"{where} must have one row of {x!r} for each of {y!r}, got shapes {shapes[0]} and {shapes[1]}: copy "
        "the file again",
    )
    return Block(held["x"], held["y"], str(path))
