"""Comparison: several methods on the same clients, from the same weights, on the same cohorts and batches."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from fedjax_het.engine import History, stack
from fedjax_het.engine.nonfinite import NonFiniteError
from fedjax_het.experiment.build import Study, build
from fedjax_het.experiment.central import pooled_over_time
from fedjax_het.experiment.clients import by_client, standing
from fedjax_het.experiment.config import Config
from fedjax_het.experiment.entrants import Entrant
from fedjax_het.experiment.folders import Folder
from fedjax_het.experiment.identity import identity
from fedjax_het.experiment.learned import agreement, learned, over_phases
from fedjax_het.experiment.pace import cohort_steps, paced, slots, unfailing
from fedjax_het.experiment.results import Comparison, Diverged, Line, metric_of
from fedjax_het.experiment.runs import Run, begin_or_go_on
from fedjax_het.experiment.tracking import Tracker
from fedjax_het.experiment.tuning import Tuned, Untunable, check, from_json, tune
from fedjax_het.experiment.values import Choice
from fedjax_het.weighting import Noisy, privacy

__all__ = ["Trackers", "compare", "execute", "no_trackers"]

Trackers = Callable[[str, int, int], Sequence[Tracker]]
"""(label, seed, rounds done so far) -> trackers of that run."""


def no_trackers(label: str, seed: int, done: int) -> Sequence[Tracker]:
    """Nobody is told, beside metrics.jsonl."""
    return ()


def compare(
    study: Config | Study | None = None,
    *,
    folder: str | Path | None = None,
    trackers: Trackers = no_trackers,
    announce: Callable[[str], None] = lambda text: None,
    progress: bool | None = False,
) -> Comparison:
    """Run several methods under one protocol.

    Every method starts from the same weights, draws the same cohorts and visits its rows in the same batches,
    seed by seed: all of it derives from the run's key, never from the method. The federation is the same for
    all seeds. Rates are tuned if the configuration says so, with the same budget for every method.

    A method that is defined only for all clients (`Entry.everyone`) runs with all of them, whatever the study
    draws, and the protocol says so. A method that diverges is left out, is named in `Comparison.diverged`, and
    the others go on. A method that a family brought and that does not fit the study is in
    `Comparison.left_out`, with the reason.

    Args:
        study: a configuration, whose `compare` lists the methods; parts made in Python (`study_of`); default
            the digits study.
        folder: keeps all of it, pictures included, and lets it go on after an interruption; a new or empty one,
            or one in which this very comparison was begun.
        trackers: (label, seed, rounds done) -> trackers of that run, which goes on from there.
        announce: told what happens.
        progress: a bar for every run.

    Raises:
        ConfigError: parts that do not fit.
        NonFiniteError, Untunable: every method diverged; raised for the first.
        FileExistsError, CheckpointError, SaveError: what is in the folder is something else, is damaged, or
            cannot be written.
        KeyboardInterrupt: after saving what is done.
    """
    config = Config() if study is None else study
    ready = build(config, config.compare) if isinstance(config, Config) else config
    return execute(ready, "compare", folder, trackers=trackers, announce=announce, progress=progress)


def execute(
    study: Study,
    command: str,
    folder: str | Path | None = None,
    *,
    step: int | None = None,
    trackers: Trackers = no_trackers,
    announce: Callable[[str], None] = lambda text: None,
    progress: bool | None = False,
) -> Comparison:
    """Run every entrant of a study with every seed; see `compare`.

    Args:
        study: what to run.
        command: "run" or "compare", kept in the folder so that `resume` knows.
        folder: as in `compare`.
        step: the save to go on from where the latest is damaged.
        trackers: as in `compare`.
        announce: as in `compare`.
        progress: as in `compare`.
    """
    for entrant in study.entrants.values() if study.config.tuning.candidates else ():
        check(study, entrant)
    place = None if folder is None else Folder.claim(Path(folder), study, command)
    if place is not None:
        announce(f"results in {place.path}")
    for label, reason in study.left_out.items():
        announce(f"{label} is left out: {reason}")
    if spent := _spent(study):
        announce(spent.removeprefix("; "))
    lines: list[Line] = []
    diverged: list[Diverged] = []
    for entrant in study.entrants.values():
        tuned = _tuned(study, entrant, place, announce)
        if isinstance(tuned, Diverged):
            found = tuned
        else:
            entrant = entrant if tuned is None else tuned.entrant
            announce(entrant.label)
            found = _line(study, entrant, tuned, lines, place, step, trackers, announce, progress)
        if isinstance(found, Line):
            lines.append(found)
        else:
            diverged.append(found)
            announce(f"{found}: {found.error}")
    if not lines:
        raise diverged[0].error
    metric = metric_of(lines[0].history)
    _, about = standing(study.federation, metric)
    where = None if place is None else place.path
    result = Comparison(
        tuple(lines), metric, _protocol(study), about, where, tuple(diverged), dict(study.left_out)
    )
    if place is not None:
        announce("pictures")
        place.finish(study, result)
    return result


def _tuned(
    study: Study, entrant: Entrant, place: Folder | None, announce: Callable[[str], None]
) -> Tuned | Diverged | None:
    """What tuning chooses for a method; read from the folder if it was done before."""
    how = study.config.tuning
    if how.candidates == 0:
        return None
    done = None if place is None else place.tuning().get(entrant.label)
    if done is not None:
        return from_json(done, study)
    announce(f"{entrant.label}: tuning, {how.candidates} candidates")
    try:
        tuned = tune(study, entrant, candidates=how.candidates, seeds=how.seeds)
    except Untunable as error:
        return Diverged(entrant.label, error)
    if place is not None:
        place.add_tuning(tuned)
    if tuned.at_edge:
        announce(f"{entrant.label}: the best rate is at the edge of the grid, a better one may lie beyond")
    return tuned


def _line(
    study: Study,
    entrant: Entrant,
    tuned: Tuned | None,
    lines: Sequence[Line],
    place: Folder | None,
    step: int | None,
    trackers: Trackers,
    announce: Callable[[str], None],
    progress: bool | None,
) -> Line | Diverged:
    """Every seed of a method, or the first that diverges."""
    began = time.perf_counter()
    sampler = study.sampler_of(entrant)
    federation = pooled_over_time(study.federation) if entrant.centralised else study.federation
    demands = sampler is not study.sampler and not entrant.centralised
    if demands:
        announce(f"{entrant.label}: all {federation.num_clients} clients in every round, as the method demands")
    histories, clients, found = [], [], []
    for position, seed in enumerate(study.config.seeds):
        algorithm = entrant.algorithm
        if entrant.centralised:
            algorithm = entrant.rebuilt(paced(entrant.solver, _steps(study, entrant, lines, position)))
        parts = {"algorithm": algorithm, "federation": federation, "sampler": sampler}
        known = {} if place is None else identity(study, entrant, seed, parts)
        run = Run(entrant.label, seed, algorithm, federation, sampler, known)
        try:
            state, history = begin_or_go_on(
                dataclasses.replace(study, weighting=None) if entrant.centralised else study,
                run,
                None if place is None else place.run(entrant.label, seed),
                step=step,
                trackers=functools.partial(trackers, entrant.label, seed),
                progress=progress,
                say=announce,
            )
        except NonFiniteError as error:
            return Diverged.of(entrant.label, seed, error)
        if history.interrupted:
            raise KeyboardInterrupt
        for rounds, text in history.notices:
            announce(f"{entrant.label}, seed {seed}, after {rounds} rounds: {text}")
        histories.append(history)
        clients.append(by_client(algorithm, state, study, history, _judged(study, history)))
        found.append(learned(entrant.choice, state))
    both = stack(histories)
    metric = metric_of(both)
    union, agreed = f"global/{metric}", [agreement(each, federation) for each in found]
    moves = 0 if entrant.centralised else 1
    return Line(
        entrant.label,
        both[union][:, -1] if union in both else None,
        np.stack([values[metric] for values in clients]),
        both["bytes_down"].sum(axis=1) * moves,
        both["bytes_up"].sum(axis=1) * moves,
        np.where(both["present"], both["info/steps"], 0).sum(axis=(1, 2)),
        time.perf_counter() - began,
        both,
        tuned,
        demands,
        {name: np.stack([values[name] for values in clients]) for name in _judged(study, both)[1:]},
        found[0],
        {name: np.array([each[name] for each in agreed]) for name in agreed[0]},
        {} if entrant.centralised else over_phases(both, federation, metric, study.config.rounds),
    )


def _judged(study: Study, history: History) -> list[str]:
    """What clients are judged by: first the comparison's metric, then those that the configuration names."""
    named = study.config.evaluation.metrics or ()
    return list(dict.fromkeys([metric_of(history), *(name for name in named if f"personal/{name}" in history)]))


def _protocol(study: Study) -> str:
    config, many = study.config, study.federation.num_clients
    places = slots(study.sampler, many)
    all_of_them = [entrant.label for entrant in study.entrants.values() if entrant.everyone]
    replaced = all_of_them and not unfailing(study.sampler, many)
    but = f" (all {many}, every round, for {', '.join(all_of_them)})" if replaced else ""
    same = (
        "same weights and batches for all, cohorts by each method's own losses"
        if _by_losses(config.sampling)
        else "same weights, cohorts and batches for all"
    )
    seeds = "1 seed" if len(config.seeds) == 1 else f"{len(config.seeds)} seeds"
    how = config.tuning
    rates = (
        "rates untuned"
        if how.candidates == 0
        else f"every method tuned on validation rows: {how.candidates} candidates x {how.seeds} other seeds"
    )
    return (
        f"{many} clients of {study.federation.spec.pool.name}, {places} a round{but}, {config.rounds} rounds, "
        f"{seeds}; {same}; {rates}{_spent(study)}"
    )


def _spent(study: Study) -> str:
    """What noisy sizes spend of their clients' privacy."""
    told = jax.tree.leaves(study.weighting, is_leaf=lambda part: isinstance(part, Noisy))
    words = ""
    for part in told:
        if isinstance(part, Noisy):
            releases = 1 if part.schedule is None else study.federation.spec.phases
            account = privacy(part, 0, releases=releases)
            times = "once" if releases == 1 else f"in each of {releases} phases"
            words += f"; sizes told {times} with noise, epsilon {account.epsilon:g} a client in all"
    return words


def _by_losses(choice: Choice) -> bool:
    """Whether who is drawn depends on what clients reported."""
    inner = (value for value in choice.options.values() if isinstance(value, Choice))
    return choice.name == "power_of_choice" or any(map(_by_losses, inner))


def _steps(study: Study, entrant: Entrant, lines: Sequence[Line], position: int) -> int:
    """Steps a round: what FedAvg's cohorts took under this seed, or what cohorts take on average."""
    for line in lines:
        if line.name == "fedavg":
            return max(1, round(int(line.steps[position]) / study.config.rounds))
    return cohort_steps(study, entrant.solver)
