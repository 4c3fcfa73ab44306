"""One run: a method and a seed, saved as it goes, so that it can be stopped at any moment and go on."""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from fedjax_het.engine import History, State, initial_state, make_round, simulate
from fedjax_het.engine.executors import Auto
from fedjax_het.engine.history import join
from fedjax_het.experiment.build import Study
from fedjax_het.experiment.checkpoint import CheckpointError, SaveError, restore, save, saved_steps
from fedjax_het.experiment.tracking import Tracker, jsonl, track
from fedjax_het.federation import Federation
from fedjax_het.typing import PyTree

__all__ = ["Run", "begin_or_go_on", "environment"]

LIBRARIES = ("fedjax-het", "jax", "jaxlib", "numpy", "optax", "flax", "orbax-checkpoint")
"""Whose versions may change the last bits of a result."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One method with one seed.

    Attributes:
        label: the method's, in tables.
        seed: of the run's key.
        algorithm: what runs.
        federation: on whom; pooled for centralised training.
        sampler: who takes part.
        identity: JSON; all that fixes the result, so that a saved run is not continued as another.
    """

    label: str
    seed: int
    algorithm: Any
    federation: Federation
    sampler: Any
    identity: dict[str, Any]


def environment() -> dict[str, Any]:
    """The libraries and the device of this process, as JSON."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # used from a checkout that was never installed
            versions[name] = "unknown"
    device = jax.devices()[0]
    return {
        "versions": versions,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "system": f"{platform.system()} {platform.machine()}",
    }


def begin_or_go_on(
    study: Study,
    run: Run,
    folder: Path | None,
    *,
    step: int | None = None,
    trackers: Callable[[int], Sequence[Tracker]] = lambda done: (),
    progress: bool | None = False,
    say: Callable[[str], None] | None = None,
) -> tuple[State, History]:
    """Run it, from its last save if there is one, to its end.

    Args:
        study: rounds, evaluation, executor and how often to save.
        run: which run.
        folder: of this run; holds "checkpoints" and "metrics.jsonl". None keeps nothing.
        step: the save to go on from where the latest is damaged.
        trackers: rounds done so far -> trackers, told of every later round, beside metrics.jsonl.
        progress: as in `simulate`.
        say: told what a person should know, such as a save that failed.

    Returns:
        (state, history) of the whole run, as if it had never been interrupted; after Ctrl-C what is done and
        saved, with `history.interrupted` set.

    Raises:
        CheckpointError: what is saved is damaged, or of another run.
        SaveError: the end of the run could not be saved.
        NonFiniteError: see `simulate`.
    """
    config = study.config
    speak = (lambda text: print(text, file=sys.stderr)) if say is None else say
    saver = None if folder is None else _Saver(study, run, folder, speak)
    before = None if saver is None else saver.last(step)
    start = 0 if before is None else int(before[0].round)
    left = config.rounds - start
    if before is not None and left <= 0:
        return before
    told = list(trackers(start))
    if folder is not None:
        lines = folder / "metrics.jsonl"
        if before is None:  # written by a process that ended before its first save
            lines.unlink(missing_ok=True)
        told.append(jsonl(lines, resume_from=start))
    pieces = [] if before is None else [before[1]]
    clock = float(before[1]["seconds"][-1]) if before is not None and start > 0 else 0.0

    def watch(state: State, piece: History) -> None:
        piece = piece.later(clock)
        pieces.append(piece)
        track(piece, *told)
        if saver is not None and saver.due():
            saver.commit(state, join(pieces))

    state, new = simulate(
        run.algorithm,
        run.federation,
        rounds=left,
        sampler=run.sampler,
        executor=study.executor,
        measures=study.measures,
        weighting=study.weighting,
        every=config.every,
        split=study.splits,
        metrics=study.metrics,
        local=config.evaluation.local,
        sample=_sample(study, run),
        progress=progress,
        watch=watch,
        key=jax.random.key(run.seed) if before is None else None,
        state=None if before is None else before[0],
    )
    # the state and this history belong together, wherever Ctrl-C fell; the pieces may lack the last block
    history = join([*([] if before is None else [before[1]]), new.later(clock)])
    if saver is not None:
        saver.commit(state, dataclasses.replace(history, interrupted=False), last=True)
    return state, history


def _sample(study: Study, run: Run) -> int | None:
    """Clients scored at each evaluation; pooled data are one client, who is always scored."""
    sample = study.config.evaluation.sample
    return None if sample is None or run.federation.num_clients <= sample else sample


class _Saver:
    """Saves a run now and then."""

    def __init__(self, study: Study, run: Run, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder / "checkpoints", say
        self.keep, self.seconds = study.config.checkpoint.keep, study.config.checkpoint.seconds
        self.label = f"{run.label}, seed {run.seed}"
        round_fn = make_round(run.sampler, study.executor, study.measures, weighting=study.weighting)
        key = jax.random.key(run.seed)
        self.like = jax.eval_shape(
            lambda key: initial_state(run.algorithm, run.federation, key=key, round_fn=round_fn), key
        )
        chosen = _chosen(round_fn, run.algorithm, self.like, run.federation)
        self.meta = {"config": run.identity, "executor": chosen, "versions": environment()["versions"]}
        self.saved = time.monotonic()

    def last(self, step: int | None) -> tuple[State, History] | None:
        """What was saved last; where that is damaged, what was saved at `step`, if that is there."""
        try:
            return restore(self.folder, self.like, self.meta)
        except CheckpointError:
            if step is None or step not in saved_steps(self.folder):
                raise
        return restore(self.folder, self.like, self.meta, step=step)

    def due(self) -> bool:
        """Whether enough time has passed since the last save."""
        return time.monotonic() - self.saved >= self.seconds

    def commit(self, state: State, history: History, *, last: bool = False) -> None:
        """Save; a save that fails on the way is told, at the end it is an error."""
        try:
            save(self.folder, state, history, {**self.meta, "round": int(state.round)}, keep=self.keep)
        except SaveError as error:
            if last:
                raise
            self.say(f"{self.label}: {error}")
        self.saved = time.monotonic()


def _chosen(round_fn: Any, algorithm: Any, state: PyTree, federation: Federation) -> str:
    """The executor that a round will use, in words: what `auto()` chooses for it."""
    if not isinstance(round_fn.executor, Auto):
        return repr(round_fn.executor)
    asked = _Asked(round_fn.executor)
    jax.eval_shape(dataclasses.replace(round_fn, executor=asked), algorithm, state, federation)
    return ", ".join(dict.fromkeys(asked.answers))


class _Asked:
    """Notes what an executor chooses, and lets it run."""

    def __init__(self, auto: Auto) -> None:
        self.auto = auto
        self.answers: list[str] = []

    def __call__(self, fn: Any, shared: Any, rows: Any, cost: Any = None) -> Any:
        chosen = self.auto.choose(fn, shared, rows)
        self.answers.append(repr(chosen))
        return chosen(fn, shared, rows, cost)
