"""History files: one npz archive of plain arrays, never a pickle."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_het.engine.history import History, Variable

__all__ = ["arrays", "load", "load_all", "parse", "save", "save_all"]

ABOUT = "__history__"
"""The archive's member that names dimensions and notices, as JSON text."""

FORMAT = 1

APART = "::"
"""Between the name of a history and that of a variable, where a file holds several."""


def arrays(history: History) -> dict[str, np.ndarray]:
    """A History as named plain arrays, for any array store; `parse` is the way back.

    Raises:
        ValueError: an array of objects, which only a pickle could hold.
    """
    about = {
        "format": FORMAT,
        "dims": {name: list(variable.dims) for name, variable in history.variables.items()},
        "interrupted": history.interrupted,
        "notices": [list(notice) for notice in history.notices],
    }
    held = {name: np.asarray(variable.values) for name, variable in history.variables.items()}
    for name, values in held.items():
        if values.dtype.hasobject:
            raise ValueError(f"history must hold numbers, got objects in {name!r}: store arrays of numbers")
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
    for name, variable in variables.items():
        if variable.values.ndim != len(variable.dims):
            raise ValueError(
                f"path must hold an array with the axes {variable.dims} for {name!r}, got shape "
                f"{variable.values.shape} in {where}: it is damaged"
            )
    notices = tuple((int(rounds), str(text)) for rounds, text in about["notices"])
    return History(variables, bool(about["interrupted"]), notices)


def save(history: History, path: str | PathLike[str]) -> None:
    """Write a compressed npz; a reader sees the old file or the new one, never half of one.

    Args:
        history: what to write.
        path: the file; its folder must exist.

    Raises:
        OSError: the folder is missing or cannot be written; nothing is changed.
    """
    _write(arrays(history), path)


def save_all(histories: Mapping[str, History], path: str | PathLike[str]) -> None:
    """Write several histories into one file, under their names; see `save`.

    Args:
        histories: by name, without "::".
        path: the file; its folder must exist.

    Raises:
        OSError: the folder is missing or cannot be written; nothing is changed.
    """
    together = {
        f"{label}{APART}{name}": values
        for label, history in histories.items()
        for name, values in arrays(history).items()
    }
    _write(together, path)


def _write(held: Mapping[str, np.ndarray], path: str | PathLike[str]) -> None:
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path must lie in a folder that exists, got {target}: make the folder first")
    partial = target.with_name(f".{target.name}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **held)  # pyright: ignore[reportArgumentType]
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
    held = _read(path)
    several = sorted({name.split(APART)[0] for name in held if APART in name})
    if several:
        raise ValueError(
            f"path must hold one history, got {path} with {', '.join(several)}: read it with "
            "fh.experiment.load_histories"
        )
    return parse(held, str(path))


def load_all(path: str | PathLike[str]) -> dict[str, History]:
    """Read what `save_all` wrote, by name in the order written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds no histories; the message names it.
    """
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, values in _read(path).items():
        label, apart, inner = name.partition(APART)
        if not apart:
            raise ValueError(f"path must hold named histories, got {path}: read it with History.load")
        parts.setdefault(label, {})[inner] = values
    return {label: parse(held, f"{path}, {label}") for label, held in parts.items()}


def _read(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # the bytes are here: whatever reading them raises, they are not an archive
        raise ValueError(
            f"path must be a file that History.save wrote, got {path}, which is damaged or something else "
            f"({error}): save the history again"
        ) from None
