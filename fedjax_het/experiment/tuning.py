"""Tuning: as many candidates for every method, judged on validation rows, under keys of no final run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import keys
from fedjax_het.check import positive_int, require
from fedjax_het.engine import make_round
from fedjax_het.experiment.build import Study
from fedjax_het.experiment.candidates import grid, numbers
from fedjax_het.experiment.central import pooled_over_time
from fedjax_het.experiment.config import ConfigError, Method
from fedjax_het.experiment.entrants import Entrant
from fedjax_het.experiment.lanes import losses, stacked
from fedjax_het.experiment.pace import cohort_steps, paced
from fedjax_het.experiment.values import complete, make, plain

__all__ = ["Tuned", "Untunable", "check", "from_json", "tune"]

STREAM = "tuning"
"""Of a seed's key: no draw of a tuning run is one of a final run, whatever its seed."""


class Untunable(ValueError):
    """No candidate of a method stayed finite."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What became of one method's candidates.

    Attributes:
        label: of the entrant.
        entrant: with the best candidate's numbers; to run under fresh seeds.
        candidates: what was tried, as a configuration says it.
        scores: by candidate and seed, the mean over clients of the loss of each client's own model on its
            validation rows after the last round; inf where the run was not finite, or was refused.
        chosen: place of the candidate with the lowest mean over seeds, the first of equals.
    """

    label: str
    entrant: Entrant = dataclasses.field(compare=False, repr=False)
    candidates: tuple[Method, ...]
    scores: tuple[tuple[float, ...], ...]
    chosen: int

    @property
    def method(self) -> Method:
        """The best candidate: `Config(methods={label: tuned.method})` runs it."""
        return self.candidates[self.chosen]

    @property
    def numbers(self) -> dict[str, Any]:
        """The tuned numbers of the best candidate by name: "learning_rate", and the method's own."""
        return numbers(self.method)

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the lowest or the highest tried, so that a better one may lie beyond."""
        rates = [numbers(candidate)["learning_rate"] for candidate in self.candidates]
        return len(rates) > 1 and rates[self.chosen] in (min(rates), max(rates))

    def as_json(self) -> dict[str, Any]:
        """All but the entrant, as strict JSON has it (inf is null); `from_json` reads it."""
        return {
            "label": self.label,
            "candidates": [
                {"algorithm": plain(candidate.algorithm), "local": plain(candidate.local)}
                for candidate in self.candidates
            ],
            "scores": [[score if np.isfinite(score) else None for score in row] for row in self.scores],
            "chosen": self.chosen,
        }


def from_json(table: Mapping[str, Any], study: Study) -> Tuned:
    """What `Tuned.as_json` returned, with the entrant built again.

    Args:
        table: as written.
        study: of the same configuration.

    Raises:
        ValueError: not such a table, or one of another configuration.
    """
    again = "delete it to tune again"
    try:
        label, chosen = table["label"], table["chosen"]
        candidates = tuple(
            Method(complete("method", each["algorithm"], "tuning"), complete("local", each["local"], "tuning"))
            for each in table["candidates"]
        )
        scores = tuple(tuple(np.inf if one is None else float(one) for one in row) for row in table["scores"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"table must be what Tuned.as_json returns, got another ({error!r}): {again}"
        ) from error
    ours = bool(candidates) and label in study.entrants
    require(
        ours and candidates == grid(study, study.entrants[label], len(candidates)),
        f"table must hold candidates of this configuration, got others for {label!r}: {again}",
    )
    widths = {len(row) for row in scores}
    whole = len(scores) == len(candidates) and len(widths) == 1 and 0 not in widths
    require(
        whole and chosen == _best(scores),
        f"table must have as many scores for each of its {len(candidates)} candidates, and the place of the "
        f"best, got scores of {len(scores)} and place {chosen!r}: {again}",
    )
    return Tuned(label, _built(study.entrants[label], candidates[chosen]), candidates, scores, chosen)


def check(study: Study, entrant: Entrant) -> None:
    """Raise what `tune` would raise before it compiles anything.

    Raises:
        ConfigError: no validation rows; see `grid`.
    """
    grid(study, entrant, study.config.tuning.candidates)
    _check_rows(study)


def tune(study: Study, entrant: Entrant, *, candidates: int = 8, seeds: int = 2) -> Tuned:
    """Try `grid(study, entrant, candidates)` and keep the best.

    Every candidate runs as the study's runs do, for as many rounds, under the same `seeds` keys, which are
    those of no final run. All of it is one compiled program, vmapped over candidates and seeds. Test rows are
    not read. A candidate whose run is not finite under some seed, or whose numbers the method refuses, loses
    and leaves the others alone.
    Centralised training runs on the pooled rows, with as many steps as a cohort takes on average, and is judged
    as the others are, client by client.

    Args:
        study: the study; its federation needs validation rows.
        entrant: one of its methods.
        candidates: how many are tried, the same for every method.
        seeds: runs of each.

    Raises:
        TypeError, ValueError: numbers of the wrong kind or range; no validation rows; see `grid`.
        Untunable: no candidate that stays finite.
    """
    seeds = positive_int("seeds", seeds, remedy="2 is usual")
    methods = grid(study, entrant, candidates)
    _check_rows(study)
    algorithms = {}
    for place, method in enumerate(methods):
        with contextlib.suppress(ValueError):  # numbers that the method refuses: steps out of its range, say
            algorithms[place] = _algorithm(study, _built(entrant, method))
    _check_some(entrant, methods, algorithms)
    layout, fixed, varied = stacked(list(algorithms.values()), entrant.label)
    lanes = jnp.stack([keys.stream(jax.random.key(seed), STREAM) for seed in range(seeds)])
    federation = pooled_over_time(study.federation) if entrant.centralised else study.federation
    sampler = study.sampler_of(entrant)
    weighting = None if entrant.centralised else study.weighting
    found = losses(
        layout,
        fixed,
        varied,
        lanes,
        make_round(sampler, study.executor, weighting=weighting),
        federation,
        study.federation,
        jnp.asarray(study.config.rounds, jnp.int32),
    )
    ran = dict(zip(algorithms, np.asarray(found)))
    scores = tuple(tuple(map(float, ran.get(place, [np.inf] * seeds))) for place in range(len(methods)))
    chosen = _best(scores)
    _check_some(entrant, methods, np.isfinite(scores[chosen]).all())
    return Tuned(entrant.label, _built(entrant, methods[chosen]), methods, scores, chosen)


def _check_some(entrant: Entrant, methods: Sequence[Method], some: Any) -> None:
    """Raise `Untunable` unless there is a candidate left."""
    if some:
        return
    low, high = (numbers(methods[place])["learning_rate"] for place in (0, -1))
    raise Untunable(
        f"candidates of {entrant.label!r} must stay finite, got {len(methods)} that did not, with learning "
        f"rates from {low:g} to {high:g}: configure a lower one"
    )


def _best(scores: Sequence[Sequence[float]]) -> int:
    return int(np.argmin(np.mean(np.asarray(scores, float), axis=1)))


def _check_rows(study: Study) -> None:
    if np.any(np.asarray(study.federation.valid.size) > 0):
        return
    section = "data" if study.config.clients is None else "clients"
    raise ConfigError(
        f"{section}.valid must leave rows to tune on, got no validation rows: set {section}.valid=0.2, or "
        "tuning.candidates=0 to run untuned",
        f"{section}.valid",
        "tuning.candidates",
    ).at(study.config.source)


def _built(entrant: Entrant, method: Method) -> Entrant:
    """The entrant with a candidate's numbers."""
    solver = make("local", method.local, {}) if method.local is not None else entrant.solver
    algorithm = make("method", method.algorithm, {"problem": entrant.problem, "solver": solver})
    return dataclasses.replace(entrant, choice=method.algorithm, solver=solver, algorithm=algorithm)


def _algorithm(study: Study, entrant: Entrant) -> Any:
    """What runs: centralised training takes the steps of a cohort every round."""
    if not entrant.centralised:
        return entrant.algorithm
    return entrant.rebuilt(paced(entrant.solver, cohort_steps(study, entrant.solver)))
