"""History files: one npz archive of plain arrays, never a pickle."""

from __future__ import annotations

import json
import os
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_het.engine.history import History, Variable

__all__ = ["arrays", "load", "parse", "save"]

ABOUT = "__history__"
"""The archive's member that names dimensions and notices, as JSON text."""

FORMAT = 1


def arrays(history: History) -> dict[str, np.ndarray]:
    """A History as named plain arrays, for any array store; `parse` is the way back."""
    about = {
        "format": FORMAT,
        "dims": {name: list(variable.dims) for name, variable in history.variables.items()},
        "interrupted": history.interrupted,
        "notices": [list(notice) for notice in history.notices],
    }
    held = {name: np.asarray(variable.values) for name, variable in history.variables.items()}
    return {ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8), **held}


def parse(held: Any, where: str = "the mapping") -> History:
    """The History that `arrays` took apart.

    Raises:
        ValueError: these are not the arrays of a History; the message says what is missing.
    """
    if ABOUT not in held:
        raise ValueError(f"path must be a file that History.save wrote, got {where}: it has no {ABOUT!r}")
    about = json.loads(bytes(np.asarray(held[ABOUT])).decode())
    if about.get("format") != FORMAT:
        raise ValueError(
            f"path must be a history of format {FORMAT}, got format {about.get('format')!r} in {where}: "
            "read it with the version of fedjax_het that wrote it"
        )
    missing = [name for name in about["dims"] if name not in held]
    if missing:
        raise ValueError(
            f"path must hold every variable of the history, got {where} without {missing}: it is damaged"
        )
    variables = {name: Variable(tuple(dims), np.asarray(held[name])) for name, dims in about["dims"].items()}
    notices = tuple((int(rounds), str(text)) for rounds, text in about["notices"])
    return History(variables, bool(about["interrupted"]), notices)


def save(history: History, path: str | PathLike[str]) -> None:
    """Write a compressed npz; a reader sees the old file or the new one, never half of one.

    Args:
        history: what to write.
        path: the file; its folder must exist.

    Raises:
        OSError: the folder cannot be written; nothing is changed.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays(history))  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load(path: str | PathLike[str]) -> History:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or not a History; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"path must be a file that History.save wrote, got {path}, which is damaged or something else "
            f"({error}): save the history again"
        ) from None
    return parse(held, str(path))
