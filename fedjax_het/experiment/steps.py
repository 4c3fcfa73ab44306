"""Step folders: a number is the name of what is whole; everything else is in the making or on its way out.

    20/          a whole step; 20/SHA256SUMS, written last, holds the digest of each of its files
    saving-30/   being written, or left by a save that was killed
    replaced-20/ the former step 20 while a new one takes its place
    removed-10/  being deleted

One rename makes a step whole, and one takes it away, so that a process killed at any moment leaves whole steps.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

__all__ = [
    "SUMS",
    "commit",
    "damage",
    "ours",
    "remove",
    "saving",
    "seal",
    "sweep",
    "sweep_until_quiet",
    "whole",
]

SUMS = "SHA256SUMS"
"""The file of digests, in the format of the program sha256sum."""

_SAVING, _REPLACED, _REMOVED = "saving-", "replaced-", "removed-"


def whole(folder: Path) -> dict[int, Path]:
    """The steps of a folder, ascending; of a step that was being replaced, the former one."""
    if not folder.is_dir():
        return {}
    found = {}
    # letters come before digits here, so that a new step hides the one it replaces
    for path in sorted(folder.iterdir(), reverse=True):
        number = path.name.removeprefix(_REPLACED)
        if number.isdecimal() and str(int(number)) == number:
            found[int(number)] = path
    return dict(sorted(found.items()))


def saving(folder: Path, step: int) -> Path:
    """Where a step is written until it is whole."""
    return folder / f"{_SAVING}{step}"


def seal(path: Path) -> None:
    """Write the digest of each file of a step."""
    lines = [f"{_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path)]
    (path / SUMS).write_text("".join(lines))


def commit(folder: Path, step: int) -> None:
    """Make the step that lies sealed in `saving` a whole one, in the place of an earlier one of its number."""
    final, former = folder / str(step), folder / f"{_REPLACED}{step}"
    if final.exists():
        final.rename(former)
    saving(folder, step).rename(final)
    shutil.rmtree(former, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a step, which stops being one at once."""
    gone = path.with_name(f"{_REMOVED}{path.name}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete what killed saves have left; nothing of another name is touched."""
    kept = set(whole(folder).values())
    for path in folder.iterdir():
        if path.name.startswith((_SAVING, _REPLACED, _REMOVED)) and path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def sweep_until_quiet(folder: Path, quiet: float = 1.0, most: float = 30.0) -> None:
    """Delete what a failed save has left, until nothing new has appeared for `quiet` seconds; `most` in all.

    The store reports the first piece that fails while it goes on writing the others, in folders that it makes
    again when they are gone.
    """
    begun = seen = time.monotonic()
    while (now := time.monotonic()) - seen < quiet and now - begun < most:
        if any(path.name.startswith(_SAVING) for path in folder.iterdir()):
            seen = now
            sweep(folder)
        time.sleep(0.02)


def ours(path: Path) -> bool:
    """Whether a step was written here: it has its digests, be they right or wrong."""
    return (path / SUMS).is_file()


def damage(path: Path) -> str | None:
    """What is wrong with a step's files, in words that name the file; None if they are as they were written."""
    sums = path / SUMS
    if not ours(path):
        return f"{sums} is missing, so this program did not write the step, or it was copied in part"
    try:
        told = [line.split("  ", 1) for line in sums.read_text("ascii").splitlines()]
        digests = {name: digest for digest, name in told}
    except (OSError, ValueError) as error:
        return f"{sums} cannot be read ({_reason(error)})"
    unlisted = [
        file for file in _files(path) if file != sums and file.relative_to(path).as_posix() not in digests
    ]
    if unlisted or not digests:
        return f"{sums} does not list {unlisted[0] if unlisted else 'anything'}"
    for name, digest in digests.items():
        file = path / name
        try:
            if not file.is_file():
                return f"{file} is missing"
            if _digest(file) != digest:
                return f"{file} is corrupted or truncated ({os.path.getsize(file)} bytes)"
        except OSError as error:
            return f"{file} cannot be read ({_reason(error)})"
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not a list of digests"
