"""Fashion-MNIST from the files that its authors publish."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from fedjax_het.buffers import room
from fedjax_het.check import known, require
from fedjax_het.pool import Pool, pool

__all__ = ["fashion_mnist"]

SYSTEM = "/usr/share/datasets/fashion-mnist"
"""Where the Debian package `dataset-fashion-mnist` puts the files."""

VARIABLE = "FEDJAX_HET_DATA"
"""The environment variable that names a folder of data sets."""

PIECE = 1 << 20
"""Bytes unpacked at a time, since the reader makes a copy of what it is asked for."""

LARGEST = 1100
"""Bytes that a byte of a gzip file can stand for, at most: 1032, and some for short files."""

PREFIXES = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}


def fashion_mnist(split: str = "train") -> Pool:
    """Grey images of 28 x 28 of ten kinds of clothes; 60,000 for training, 10,000 for testing.

    The four files (`train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`, and `t10k-...`) are looked for
    in `$FEDJAX_HET_DATA/fashion-mnist`, in `$FEDJAX_HET_DATA`, and where Debian's package
    `dataset-fashion-mnist` puts them. Nothing is downloaded.

    Args:
        split: "train", "test", or "all" (the training images, then the test images), as published. A
            federation made from it cuts its own train and test rows.

    Returns:
        A Pool "fashion_mnist": x uint8 [M, 28, 28], divided by 255 when a batch is taken; y int32 [M].

    Raises:
        FileNotFoundError: the files are nowhere.
        ValueError: an unknown split, a truncated or foreign file (named in the message).

    Reference: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
        algorithms", arXiv:1708.07747, 2017.
    """
    prefixes = PREFIXES[known("split", split, PREFIXES)]
    images, labels = [], []
    for prefix in prefixes:
        picture, name = _find(f"{prefix}-images-idx3-ubyte.gz"), _find(f"{prefix}-labels-idx1-ubyte.gz")
        images.append(_idx(picture, 3))
        labels.append(_idx(name, 1))
        require(
            len(images[-1]) == len(labels[-1]),
            f"{name} must have a label for each image of {picture}, got {len(labels[-1])} and "
            f"{len(images[-1])}: take both from one source",
        )
    x, y = (held[0] if len(held) == 1 else np.concatenate(held) for held in (images, labels))
    return pool(x, y, num_classes=10, name="fashion_mnist")


def _find(file: str) -> Path:
    own = os.environ.get(VARIABLE)
    folders = [Path(own, "fashion-mnist"), Path(own)] if own else []
    for folder in [*folders, Path(SYSTEM)]:
        if (folder / file).is_file():
            return folder / file
    raise FileNotFoundError(
        f"{file} must lie in a folder named by ${VARIABLE} or in {SYSTEM}, got neither "
        f"({VARIABLE}={own!r}): install the Debian package dataset-fashion-mnist, or download the four files "
        f"of github.com/zalandoresearch/fashion-mnist and set {VARIABLE} to their folder"
    )


def _idx(path: Path, rank: int) -> np.ndarray:
    """An idx file of bytes: two zero bytes, 8, the rank, each length as a big-endian uint32, the data.

    It is unpacked to where the pool will use it, so that the images are in memory once.
    """
    try:
        with gzip.open(path) as file:
            start = file.read(4 + 4 * rank)
            require(
                len(start) == 4 + 4 * rank and start[:4] == bytes([0, 0, 8, rank]),
                f"{path} must begin as an idx file of {rank}-dimensional bytes, got {start[:4].hex()}: "
                "it is another file under this name",
            )
            shape = tuple(int(n) for n in np.frombuffer(start[4:], ">u4"))
            size = math.prod(shape)
            limit = LARGEST * path.stat().st_size
            require(
                size <= limit, f"{path} must hold {size} bytes for shape {shape}, got fewer: fetch it again"
            )
            data = room(size, np.uint8)
            got, view = 0, memoryview(data)  # pyright: ignore[reportArgumentType]
            while got < size and (more := file.readinto(view[got : got + PIECE])):
                got += more
            got += len(file.read(1))
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} must be a whole gzip file, got {error}: fetch it again") from None
    require(
        got == size,
        f"{path} must hold {size} bytes for shape {shape}, got {'more' if got > size else got}: fetch it again",
    )
    data.flags.writeable = False
    return data.reshape(shape)
