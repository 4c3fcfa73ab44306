"""LEAF: federations from the JSON files that its scripts write.

A file is `{"users": [...], "num_samples": [...], "user_data": {user: {"x": [...], "y": [...]}}}`. What else is
in it ("hierarchies", "raw") is not read. `num_samples` may be missing, as LEAF's own reader never looks at it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import require, short
from fedjax_het.datasets.named import Block, joined, sources
from fedjax_het.federation import Federation
from fedjax_het.frames import Names

__all__ = ["from_leaf"]

Source = str | os.PathLike[str]

Encode = Callable[[Any], Any]


def from_leaf(
    train: Source,
    test: Source | float = 0.2,
    *,
    valid: Source | float = 0.0,
    encode: Encode | None = None,
    encode_label: Encode | None = None,
    counts: bool = True,
    seed: int = 0,
    task: str = "classification",
    num_classes: int | None = None,
    name: str = "leaf",
    scale: float | None = None,
) -> tuple[Federation, Names]:
    """A federation with one client for each user of LEAF's JSON files.

    `federation, names = from_leaf("femnist/data/train", "femnist/data/test")`, and `names.client("f3795_00")`
    is the number of that writer. A folder stands for all its .json files; a user is in one of them. A user
    without rows in the test files has no test rows. LEAF's split by user puts other users into its test
    files: load those by a call of their own.

    Text needs functions that turn one entry of "x" or "y" into numbers, as in
    `from_leaf(train, test, encode=lambda line: [letters.index(c) for c in line], encode_label=letters.index,
    task="tokens", num_classes=len(letters))` for Shakespeare. An entry of Sent140 is a list of five texts, one
    of CelebA the name of an image file.

    Args:
        train: a file, or a folder of files.
        test: the same for the test rows; or a fraction of each user's rows to hold out, stratified by label.
        valid: the same for validation.
        encode: entry of "x" -> numbers of one shape and type; None if they are numbers.
        encode_label: entry of "y" -> number.
        counts: whether "num_samples" must be the numbers of rows. LEAF's scripts themselves write others into
            the test files of Shakespeare (79 too many: rows that overlap the training text are left out after
            counting) and into all files of Reddit (the user's rows before the split).
        seed: of the cut.
        task: see `pool`, as are the arguments below.
        num_classes: K; the largest label plus one if not given. A sample of a data set may lack the last.
        name: for tables and messages.
        scale: factor for integer features.

    Returns:
        (federation, names). Client k is `names.clients[k]`, the users sorted as LEAF's reader sorts them. x is
        float if a single number of it is written as one, and integer otherwise; labels written as 0.0 and 1.0
        (CelebA) are taken for integers.

    Raises:
        FileNotFoundError: no such file, or a folder without .json files.
        TypeError: text without a function to encode it; the message names file and user.
        ValueError: a file that is not LEAF's, a user without data, given twice, in two files, or with test rows
            only, x and y of different lengths, rows of different shapes, entries that `encode` fails on,
            numbers that are not finite, labels below 0, a count that differs from the rows; the message names
            file and user. A train without rows. And see `from_clients`.

    Reference: Caldas, Duddu, Wu, Li, Konečný, McMahan, Smith, Talwalkar, "LEAF: a benchmark for federated
        settings", arXiv:1812.01097, 2018.
    Departures: a user in two files, or twice in one, is refused; LEAF's reader keeps the last one that it
        happens to read.
    """
    read = _Reader(encode, encode_label, counts, task)
    opened = sources(train, valid, test, (str, os.PathLike), task)
    splits = {split: read.source(split, source) for split, source in opened.items()}
    require(
        len(splits["train"]) > 0,
        f"{os.fspath(train)} must list users to train on, got none: LEAF's preprocess.sh writes data/train",
    )
    kinds = {block.x.dtype.kind for held in splits.values() for block in held.values() if len(block.x)}
    if encode is None and "f" in kinds:
        splits = {split: {user: _floats(b) for user, b in held.items()} for split, held in splits.items()}
    facts = {"task": task, "num_classes": num_classes, "name": name, "scale": scale}
    return joined(splits, test=test, valid=valid, seed=seed, who="user", **facts)


def _floats(block: Block) -> Block:
    """x in the default float type; values that it cannot hold stay, for the pool to name."""
    with np.errstate(over="ignore"):
        cast = block.x.astype(jnp.result_type(float))
    return block._replace(x=cast) if np.isfinite(cast).all() else block


@dataclasses.dataclass(frozen=True)
class _Reader:
    """What all files of one call are read with; see `from_leaf`."""

    encode: Encode | None
    encode_label: Encode | None
    counts: bool
    task: str

    def source(self, split: str, source: Source) -> dict[str, Block]:
        """The rows of each user in a file, or in the files of a folder."""
        held: dict[str, Block] = {}
        for path in _files(split, source):
            blocks = self.file(path)
            for user in held.keys() & blocks.keys():
                raise ValueError(
                    f"{path}: user {user!r} must be in one file, got another in {held[user].source}: keep the "
                    "files of one run of LEAF's scripts in a folder"
                )
            held |= blocks
        return held

    def file(self, path: Path) -> dict[str, Block]:
        """The rows of each user in one file."""
        users, counts, data = _sections(path)
        blocks = {user: self.user(path, user, data[user]) for user in users}
        for user, count in zip(users, counts if self.counts else ()):
            rows = len(blocks[user].y)
            require(
                count == rows,
                f"{path}: user {user!r} must have {short(count)} rows, as num_samples says, got {rows}: copy "
                "the file again, or pass counts=False if LEAF itself miscounts (see from_leaf)",
            )
        return blocks

    def user(self, path: Path, user: str, held: Any) -> Block:
        """The rows of one user."""
        where = f"{path}: user {user!r}"
        if isinstance(held, _Repeated):
            raise ValueError(f"{where} must have each list once, got {held.key!r} twice: drop one")
        require(
            isinstance(held, dict) and all(isinstance(held.get(part), list) for part in "xy"),
            f'{where} must have lists "x" and "y", got {_keys(held)}: write the file again',
        )
        require(
            len(held["x"]) == len(held["y"]),
            f"{where} must have one x for each y, got {len(held['x'])} and {len(held['y'])}: align them",
        )
        x = _array(where, "x", held["x"], self.encode, "encode")
        y = _array(where, "y", held["y"], self.encode_label, "encode_label")
        require(
            self.task != "tokens" or x.dtype.kind != "f" or not len(x),
            f"{where} must have whole numbers for tokens, got {x.dtype}: renumber the tokens 0..K-1",
        )
        if self.task != "regression" and y.dtype.kind == "f":
            broken = ~(np.abs(y) <= np.iinfo(np.int32).max) | (y != np.round(y))
            require(
                not broken.any(),
                f"{where} must have whole numbers for labels, got {y[broken][:1]}: pass task='regression' if "
                "these are targets",
            )
            y = y.astype(np.int64)
        block = Block(x, y, str(path))
        return _floats(block) if x.dtype.kind == "f" else block


def _files(split: str, source: Source) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        got = f"the folder {str(path)!r} without any" if path.is_dir() else repr(str(path))
        raise FileNotFoundError(
            f"{split} must name a .json file or a folder of them, got {got}: LEAF's preprocess.sh writes "
            "data/train and data/test"
        )
    return found


def _sections(path: Path) -> tuple[list[str], list[int], dict[str, Any]]:
    """(users, num_samples or [], user_data) of a file, which fit each other."""
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON, got {error}: the file is damaged, copy it again") from None
    if isinstance(content, _Repeated):
        raise ValueError(f"{path} must hold each part once, got {content.key!r} twice: write the file again")
    form = {"users": list, "user_data": dict}
    require(
        isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in form.items()),
        f'{path} must hold a list "users" and a dict "user_data", got {_keys(content)}: pass a file of LEAF',
    )
    users, data = content["users"], content["user_data"]
    if isinstance(data, _Repeated):
        raise ValueError(f"{path}: user {data.key!r} must be once in user_data, got it twice: drop one")
    counts = content.get("num_samples", [])
    require(
        isinstance(counts, list) and ("num_samples" not in content or len(counts) == len(users)),
        f"{path}: num_samples must list one number for each of the {len(users)} users, got {short(counts)}: "
        "write the file again",
    )
    seen: set[str] = set()
    for user in users:
        known = isinstance(user, str) and user in data
        require(known, f"{path}: user {user!r} must have an entry in user_data, got none: write the file again")
        require(user not in seen, f"{path}: user {user!r} must be listed once, got it twice: drop one")
        seen.add(user)
    for user in sorted(data.keys() - seen):
        raise ValueError(f"{path}: user {user!r} must be listed in users, got it in user_data only: list it")
    return users, counts, data


class _Repeated(dict[str, Any]):
    """A JSON object that gives a key twice; a dict would keep the last value and say nothing."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) == len(pairs):
        return held
    repeated = _Repeated(held)
    repeated.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return repeated


def _keys(value: Any) -> str:
    return f"a dict of {short(list(value))}" if isinstance(value, dict) else type(value).__name__


def _array(where: str, part: str, rows: list[Any], encode: Encode | None, argument: str) -> np.ndarray:
    """The entries as one array of numbers."""
    if encode is not None:
        rows = [_encoded(where, part, row, entry, encode, argument) for row, entry in enumerate(rows)]
    elif rows and _is_text(rows[0]):
        raise TypeError(
            f"{where} must have numbers for {part}, got {short(rows[0])}: pass {argument}=, a function that "
            "turns such an entry into numbers"
        )
    shapes: dict[tuple[int, ...], int] = {}
    try:
        array = np.asarray(rows)
    except ValueError:
        array = None
    if array is None:
        for row, entry in enumerate(rows):
            shapes.setdefault(_shape(entry), row)
        listed = ", ".join(f"{shape} in row {row}" for shape, row in list(shapes.items())[:2])
        raise ValueError(f"{where} must have rows of one shape for {part}, got {listed}: cut or pad them")
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{where} must have numbers for {part}, got {array.dtype}, first {short(rows[0])}: clean the file, "
            f"or pass {argument}="
        )
    return array


def _encoded(where: str, part: str, row: int, entry: Any, encode: Encode, argument: str) -> np.ndarray:
    try:
        return np.asarray(encode(entry))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} must have entries that {argument} can turn into numbers for {part}, got "
            f"{type(error).__name__}: {error} for {short(entry)} in row {row}: clean the file, or mend "
            f"{argument}"
        ) from error


def _is_text(entry: Any) -> bool:
    while isinstance(entry, list) and entry:
        entry = entry[0]
    return isinstance(entry, (str, dict))


def _shape(entry: Any) -> tuple[int, ...]:
    try:
        return np.shape(entry)
    except ValueError:
        return (len(entry), -1)
