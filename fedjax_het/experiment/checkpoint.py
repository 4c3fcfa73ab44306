"""Checkpoints: the state and the history of a run commit together, and come back bit for bit.

Two functions, `save` and `restore`, behind which the store stays. A step is whole or absent at any moment, also
when the process is killed; what is on the disk is verified before it is believed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.engine import History
from fedjax_het.experiment import steps, store
from fedjax_het.experiment.agreement import differences, listed
from fedjax_het.experiment.packing import difference, pack, unpack
from fedjax_het.typing import PyTree

__all__ = ["CheckpointError", "SaveError", "check_writable", "restore", "save", "saved_steps"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be continued from.

    Attributes:
        previous: the latest earlier step that is whole, for `restore(..., step=)`; None if there is none.
    """

    def __init__(self, message: str, previous: int | None = None) -> None:
        super().__init__(message)
        self.previous = previous


class SaveError(OSError):
    """A folder that cannot be written to, or a save that failed; what was saved earlier is as it was."""


def check_writable(folder: str | os.PathLike[str], bytes_needed: int = 0) -> None:
    """Make sure, before a run starts, that checkpoints can be written.

    The folder is created, and a file is written, flushed to the disk and deleted.

    Args:
        folder: where checkpoints will go.
        bytes_needed: what all of them will take, `keep` + 1 times the size of one.

    Raises:
        SaveError: nothing can be written there, or there is less room than that.
    """
    place = Path(folder).absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(min(bytes_needed, 1 << 20) or 1))
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise SaveError(
            f"folder must be one that can be written to, got {place} ({error.strerror}): choose "
            "another folder, change its permissions or make room"
        ) from error
    if free < bytes_needed:
        raise SaveError(
            f"folder must have room for {_size(bytes_needed)}, got {place} with {_size(free)} free: make "
            "room or choose a folder on another disk"
        )


def saved_steps(folder: str | os.PathLike[str]) -> tuple[int, ...]:
    """The rounds at which a folder holds a checkpoint, ascending; they are not verified."""
    return tuple(steps.whole(_folder(folder)))


def save(
    folder: str | os.PathLike[str], state: PyTree, history: History, meta: dict[str, Any], *, keep: int = 2
) -> Path:
    """Commit a state and its history as one step, and delete what is older than `keep` steps.

    Steps of later rounds go as well, since the run was taken back to before them: `restore` gives what was
    saved last. Leftovers of a killed save are deleted.

    Args:
        folder: of this one run; created if need be.
        state: a pytree of arrays and typed keys, such as `State`.
        history: what the run measured so far.
        meta: JSON: "round", rounds done, which is the step's number; "config", all that fixes the result;
            "executor", what was chosen; "versions", of the libraries. More is kept and not looked at.
        keep: how many steps to keep, this one included; at least 1.

    Returns:
        The step's folder.

    Raises:
        TypeError, ValueError: arguments that cannot be saved; nothing is written.
        CheckpointError: the folder holds later rounds of another configuration, or steps that are none of ours.
        SaveError: the disk is full or cannot be written to. Earlier steps are as they were.
    """
    keep = positive_int("keep", keep, remedy="the newest step is always kept")
    meta = _json("meta", meta)
    step = positive_int("meta['round']", meta.get("round"), least=0, remedy="it is the number of rounds done")
    content, index = pack(state, history)
    index["history"] = _json("history", index["history"])
    place = _folder(folder)
    _refuse_strangers(place, step, meta)
    try:
        place.mkdir(parents=True, exist_ok=True)
        steps.sweep(place)
        path = steps.saving(place, step)
        store.write(path, content, {"meta": meta, "index": index})
        steps.seal(path)
        steps.commit(place, step)
    except Exception as error:  # whatever the store raises: its arguments are bytes, so the disk is at fault
        with suppress(OSError):
            steps.sweep_until_quiet(place)
        had = ", ".join(map(str, steps.whole(place)))
        raise SaveError(
            f"round {step} could not be saved in {place} ({_reason(error)}): make room or see to its "
            f"permissions, then resume; steps saved earlier are untouched ({had or 'none'})"
        ) from error
    earlier = [number for number in saved_steps(place) if number < step]
    with suppress(OSError):  # what cannot be deleted does no harm
        for number, old in steps.whole(place).items():
            if number > step or number in earlier[: max(0, len(earlier) + 1 - keep)]:
                steps.remove(old)
    return place / str(step)


def restore(
    folder: str | os.PathLike[str], like: PyTree, meta: dict[str, Any], *, step: int | None = None
) -> tuple[PyTree, History] | None:
    """The state and the history of a step, after every byte of it has been verified.

    Args:
        folder: that `save` was given.
        like: a state of the same structure; shapes and types do: `jax.eval_shape(initial_state, ...)`.
        meta: as for `save`, of the run that is to go on. Its "config" must be the saved one; other "versions"
            or another "executor", which may round differently, only warn. Its "round" does not matter.
        step: which step; default the latest.

    Returns:
        (state, history), or None if nothing has been saved in the folder.

    Raises:
        CheckpointError: the step is damaged or none of ours (the message names the file and an earlier step
            that is whole), is of another configuration (it lists what differs), or holds another state.
        ValueError: there is no such step.
    """
    place, meta = _folder(folder), _json("meta", meta)
    found = steps.whole(place)
    if not found:
        require(step is None, f"step must be a saved one, got {step}: there is none in {place}")
        return None
    step = max(found) if step is None else step
    require(step in found, f"step must be one of {', '.join(map(str, found))}, got {step}: they are in {place}")
    path = found[step]
    wrong = steps.damage(path)
    if wrong is not None:
        raise _damaged(path, wrong, found, step)
    try:
        words = store.words(path)
        saved, index = words["meta"], words["index"]
    except Exception as error:
        raise _damaged(path, f"{path} cannot be understood ({_reason(error)})", found, step) from error
    if saved.get("round") != step:
        wrong = f"{path} is round {saved.get('round')} under another name"
        raise _damaged(path, wrong, found, step)
    lines = differences(saved.get("config"), meta.get("config"))
    if lines:
        raise CheckpointError(
            f"{path} was saved under another configuration: give it the saved one, or begin a new run in "
            f"another folder (saved != asked)\n{listed(lines)}"
        )
    for name in ("executor", "versions"):
        lines = differences(saved.get(name), meta.get(name), name)
        if lines:
            told = f"{path} was saved with other {name}, so the last bits may differ (saved != now)"
            warnings.warn(f"{told}\n{listed(lines)}", stacklevel=2)
    lines = difference(index, like)
    if lines:
        raise CheckpointError(
            f"{path} holds a state of another structure, although the configuration is the same: continue "
            f"with the versions that saved it ({saved.get('versions')}), or begin a new run\n{listed(lines)}"
        )
    try:
        content = store.read(path)
    except Exception as error:
        raise _damaged(path, f"{path} cannot be read ({_reason(error)})", found, step) from error
    return unpack(content, index, like)


def _refuse_strangers(place: Path, step: int, meta: dict[str, Any]) -> None:
    """Later steps make way for this one, but not those of another configuration or another program."""
    for number, path in steps.whole(place).items():
        if not steps.ours(path):
            raise CheckpointError(
                f"{path} is none of our checkpoints, since it has no {steps.SUMS}: move it away, or save in a "
                "folder of its own"
            )
        if number < step or steps.damage(path) is not None:
            continue
        lines = differences(store.words(path)["meta"].get("config"), meta.get("config"))
        if lines:
            raise CheckpointError(
                f"{path} is a later step of another configuration, which saving round {step} would delete: "
                f"save in a folder of its own (saved != asked)\n{listed(lines)}"
            )


def _damaged(path: Path, wrong: str, found: dict[int, Path], step: int) -> CheckpointError:
    """The error that names what is wrong and the latest earlier step that is whole."""
    earlier = (number for number in sorted(found, reverse=True) if number < step)
    previous = next((number for number in earlier if steps.damage(found[number]) is None), None)
    remedy = (
        "no earlier step is whole: begin the run anew in another folder"
        if previous is None
        else f"step {previous} is whole: resume with step={previous} (`--from {previous}`) to go on from there"
    )
    return CheckpointError(f"checkpoint {path} cannot be restored: {wrong}; {remedy}", previous)


def _folder(folder: str | os.PathLike[str]) -> Path:
    place = Path(folder).absolute()
    if place.exists() and not place.is_dir():
        raise CheckpointError(f"folder must be a folder of checkpoints, got the file {place}: pass its folder")
    return place


def _json(name: str, value: dict[str, Any]) -> Any:
    """`value` as JSON gives it back: a tuple is a list."""
    try:
        return json.loads(json.dumps(value, default=_number))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold what JSON can say, got {error}: pass numbers and text") from None


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__}")


def _reason(error: Exception) -> str:
    """The first line of what went wrong."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
