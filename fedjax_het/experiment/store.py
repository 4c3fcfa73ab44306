"""The store: orbax, which is named here and nowhere else, so that another can take its place."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["fitting", "read", "words", "write"]

CHUNK = 8 << 20
"""Bytes of a piece: pieces are compressed and written side by side, several times as fast as one large one."""

NAME = "content"
"""The name of the one array."""


def fitting(size: int) -> int:
    """The least length of an array that holds `size` bytes and can be cut into whole pieces; at least 1."""
    return max(size, 1) if size <= CHUNK else -(-size // CHUNK) * CHUNK


def write(path: Path, content: np.ndarray, said: dict[str, Any]) -> None:
    """Write an array and JSON as the new folder `path`.

    Args:
        path: no folder yet.
        content: uint8 [bytes], of a length that `fitting` gives.
        said: JSON.

    Raises:
        OSError: the disk refused.
    """
    import orbax.checkpoint as ocp

    pieces = {NAME: ocp.SaveArgs(chunk_byte_size=CHUNK)}
    with _checkpointer() as orbax:
        try:
            orbax.save(path, args=ocp.args.PyTreeSave({NAME: content}, pieces), custom_metadata=said)
        except ValueError as error:
            # the store's own error has the system's number in its text only
            number = re.search(r"os_error_code='(\d+)'|OS error (\d+)", str(error))
            if number is None:
                raise
            code = int(number[1] or number[2])
            raise OSError(code, os.strerror(code), str(path)) from error


def words(path: Path) -> dict[str, Any]:
    """The JSON of a folder that was written."""
    with _checkpointer() as orbax:
        return orbax.metadata(path).custom_metadata


def read(path: Path) -> np.ndarray:
    """The array of a folder that was written."""
    import orbax.checkpoint as ocp

    with _checkpointer() as orbax:
        return orbax.restore(path, args=ocp.args.PyTreeRestore())[NAME]


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    # imported by those who save only, since it takes most of a second
    import orbax.checkpoint as ocp

    # one array is cheapest as a plain folder, without the common index (OCDBT) that thousands would want
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    log = logging.getLogger("absl")
    log.addFilter(_nothing)  # it warns at every save that there is no such index
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            yield checkpointer
    finally:
        log.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False
