"""Installed: files that other people's distributions bring, read where pip has put them.

The distribution itself is not imported: some cannot be any more, and only their files are wanted.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fedjax_het.check import require
from fedjax_het.extras import need

__all__ = ["columns", "installed", "whole"]

KINDS = {int: "iu", float: "iuf", str: "U"}
"""The kinds of arrays that hold a Python type."""

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)
"""What readers raise when a file is damaged, or something else under its name."""


def installed(distribution: str, path: str) -> Path:
    """A file or folder of an installed distribution.

    Args:
        distribution: its name, which extra `data` lists.
        path: of the file, below the folder that packages are installed in.

    Raises:
        ModuleNotFoundError: the distribution is not installed; the message has the command.
        FileNotFoundError: it is, but without the file.
    """
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"{distribution} must be installed for this, got no such distribution: "
            "run pip install 'fedjax-het[data]'",
            name=distribution,
        ) from None
    file = Path(str(found.locate_file(path)))
    if not file.exists():
        raise FileNotFoundError(
            f"{file} must come with {distribution}, got version {found.version} without it: "
            f"run pip install --force-reinstall {distribution}"
        )
    return file


@contextlib.contextmanager
def whole(file: Path, distribution: str) -> Iterator[None]:
    """Turn what a reader raises within the block into an error that names the file.

    Args:
        file: what is read.
        distribution: that brought it.

    Raises:
        ValueError: the file cannot be read as what it should be.
    """
    try:
        yield
    except BROKEN as error:
        raise ValueError(
            f"{file} must be whole, as {distribution} brings it, got {type(error).__name__} ({error}): "
            f"run pip install --force-reinstall {distribution}"
        ) from error


def columns(distribution: str, path: str, wanted: Mapping[str, type]) -> dict[str, np.ndarray]:
    """Columns of a table in an installed distribution; rows that lack one of the values are left out.

    Args:
        distribution: see `installed`.
        path: of a zipped csv file, or of a pickled data frame that xz has packed.
        wanted: name -> int, float or str, what the column holds.

    Returns:
        name -> array [M], of kind "i", "f" or "U".

    Raises:
        ModuleNotFoundError: the distribution or pandas is not installed.
        FileNotFoundError: see `installed`.
        ValueError: a damaged file, or one without these columns.
    """
    pandas = need("pandas", "data")
    file = installed(distribution, path)
    with whole(file, distribution):
        if ".pkl" in file.suffixes:
            # unpacked to its end first, where the checksum stands
            frame = pandas.read_pickle(io.BytesIO(lzma.decompress(file.read_bytes())), compression=None)
        else:
            frame = pandas.read_csv(file, usecols=lambda name: name in wanted, low_memory=False)
        complete = frame[list(wanted)].dropna()
        held = {name: complete[name].to_numpy() for name in wanted}
        held = {name: held[name].astype(str) if kind is str else held[name] for name, kind in wanted.items()}
    wrong = [name for name, kind in wanted.items() if held[name].dtype.kind not in KINDS[kind]]
    require(
        not wrong and len(complete) > 0,
        f"{file} must hold rows with numbers in its numeric columns, got {len(complete)} rows and others in "
        f"{wrong}: run pip install --force-reinstall {distribution}",
    )
    return held
