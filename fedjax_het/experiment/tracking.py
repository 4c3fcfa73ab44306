"""Tracking: what a run measured, told round by round to whoever asks for it.

A tracker is any callable (round, values): `round` is the number of rounds done, `values` maps names to floats.
`jsonl` and `tensorboard` make trackers; any other service is one function:

```python
def to_wandb(round, values):
    wandb.log(values, step=round)


def to_mlflow(round, values):
    mlflow.log_metrics(values, step=round)


track(history, jsonl("metrics.jsonl"), to_wandb, to_mlflow)
```

Steps only ever increase, as Weights & Biases demands, and names keep to letters, digits, "_" and "/", as MLflow
demands.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_het.check import positive_int, require, short
from fedjax_het.engine.history import History
from fedjax_het.extras import need
from fedjax_het.metrics.fairness import mean

__all__ = ["TensorBoard", "Tracker", "each_round", "jsonl", "tensorboard", "track"]

Tracker = Callable[[int, dict[str, float]], Any]
"""(rounds done, name -> value) -> whatever."""

MODELS = ("shared", "local", "personal")
"""Whose metrics have one value for each client."""


def track(history: History, *trackers: Tracker) -> None:
    """Tell each tracker of each round of a History, or of a piece of one.

    Args:
        history: of one run.
        trackers: called in turn.

    Raises:
        ValueError: see `each_round`.
    """
    for done, values in each_round(history):
        for tracker in trackers:
            tracker(done, values)


def each_round(history: History) -> Iterator[tuple[int, dict[str, float]]]:
    """(rounds done, name -> float) of each training round and each evaluation, in order.

    Names are the History's own. What has one value a round or an evaluation is passed on (seconds, bytes_down,
    bytes_up, measure/..., global/METRIC); of what has one for each client there are summaries: info/NAME/mean
    over the clients that took part, and shared/, local/ or personal/METRIC/mean and /worst_decile over the
    clients that hold rows. The round of number r and the evaluation after it come together, at r + 1; an
    evaluation before training comes at 0.

    Args:
        history: of one run, or a piece of it.

    Raises:
        ValueError: several seeds stacked.
    """
    require(
        history.seeds is None,
        "history must be of one run, got several seeds stacked: track each History before fh.stack",
    )
    told: dict[int, dict[str, float]] = {}
    for name in history:
        if name in ("round", "evaluated_at"):
            continue
        along = history.dims(name)[0]
        if along in ("round", "evaluation"):
            done = history["round"] + 1 if along == "round" else history["evaluated_at"]
            for key, values in _scalars(history, name).items():
                for at, value in zip(done.tolist(), values.tolist()):
                    told.setdefault(int(at), {})[key] = float(value)
    for done in sorted(told):
        yield done, told[done]


def _scalars(history: History, name: str) -> dict[str, np.ndarray]:
    """What a variable says in one number a round or an evaluation, [E] each; {} if it is no such thing."""
    values, dims = history[name], history.dims(name)
    if len(dims) == 1:
        return {name: values}
    if dims == ("round", "slot") and name.startswith("info/"):
        return {f"{name}/mean": mean(values, history["present"])}
    if len(dims) == 2 and ("", *name.split("/"))[-2] in MODELS:
        return {
            f"{name}/mean": history.client_mean(name),
            f"{name}/worst_decile": history.worst_decile(name),
        }
    return {}


def jsonl(path: str | os.PathLike[str], *, resume_from: int | None = None) -> Tracker:
    """A tracker that appends one line of JSON a call: {"round": 10, "global/accuracy": 0.91, ...}.

    Each line is handed to the system before the call returns, so a run that is killed loses none; a last line
    that was cut off is removed when the file is opened again. NaN and infinite values become null, which every
    JSON reader knows.

    Args:
        path: the file; made if it is not there, else appended to.
        resume_from: rounds done where a run continues; later lines, which it will write again, are removed.

    Raises:
        ValueError: a line of the file is something else (named), a negative `resume_from`.
        OSError: the folder is not there or not writable.
    """
    path = Path(path)
    if resume_from is not None:
        resume_from = positive_int("resume_from", resume_from, least=0, remedy="it is the rounds done so far")
    if path.exists():
        _cut(path, resume_from)
    else:
        path.touch()

    def write(round: int, values: Mapping[str, float]) -> None:
        require("round" not in values, 'values must not be named "round", got one: rename it')
        plain = {name: _plain(name, value) for name, value in values.items()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"round": int(round), **plain}, allow_nan=False) + "\n")

    return write


def _plain(name: str, value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"values[{name!r}] must be a number, got {short(value)}: pass a float") from None
    return number if math.isfinite(number) else None


def _cut(path: Path, resume_from: int | None) -> None:
    """Remove a line that was cut off, and those that a resumed run will write again."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            done = int(json.loads(line)["round"])
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f'{path} line {number} must be a JSON object with a "round", got {short(line.strip())}: remove '
                "the line, or track to another file"
            ) from None
        if resume_from is None or done <= resume_from:
            kept.append(line)
    if len(kept) < len(lines):
        whole = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        whole.write_text("".join(kept), encoding="utf-8")
        whole.replace(path)


@dataclasses.dataclass(frozen=True)
class TensorBoard:
    """A tracker that writes TensorBoard's event files.

    Attributes:
        writer: of tensorboardX.
    """

    writer: Any

    def __call__(self, round: int, values: Mapping[str, float]) -> None:
        """Hand the values of a round to the writer; NaN and infinite ones leave a gap."""
        for name, value in values.items():
            if _plain(name, value) is not None:
                self.writer.add_scalar(name, float(value), round)

    def close(self) -> None:
        """Write what is left and end the file; done at exit, too."""
        self.writer.close()


def tensorboard(folder: str | os.PathLike[str], *, resume_from: int | None = None) -> TensorBoard:
    """A tracker for TensorBoard: `tensorboard --logdir FOLDER` shows what it wrote.

    A thread writes about once a second: a run that is killed may lack its last rounds here, but not in `jsonl`.

    Args:
        folder: where; made if it is not there.
        resume_from: rounds done where a run continues; TensorBoard then hides what the file says of later ones.

    Raises:
        ModuleNotFoundError: tensorboardX is not installed; the message has the command.
        ValueError: a negative `resume_from`.
    """
    purge = None
    if resume_from is not None:
        done = positive_int("resume_from", resume_from, least=0, remedy="it is the rounds done so far")
        purge = done + 1
    package = need("tensorboardX", "track")
    return TensorBoard(package.SummaryWriter(str(folder), purge_step=purge, flush_secs=1))
