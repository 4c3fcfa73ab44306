"""ALGORITHMS: every method by name. A new one is one file and one line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from fedjax_het.algorithms.afl import afl
from fedjax_het.algorithms.agnostic import agnostic
from fedjax_het.algorithms.apfl import apfl
from fedjax_het.algorithms.cfl import cfl
from fedjax_het.algorithms.cosine_cfl import cosine_cfl
from fedjax_het.algorithms.ditto import ditto
from fedjax_het.algorithms.fedadagrad import fedadagrad
from fedjax_het.algorithms.fedadam import fedadam
from fedjax_het.algorithms.fedavg import fedavg
from fedjax_het.algorithms.fedavgm import fedavgm
from fedjax_het.algorithms.fedbn import fedbn
from fedjax_het.algorithms.feddyn import feddyn
from fedjax_het.algorithms.fedem import fedem
from fedjax_het.algorithms.fedmtl import fedmtl
from fedjax_het.algorithms.fednova import fednova
from fedjax_het.algorithms.fedper import fedper
from fedjax_het.algorithms.fedprox import fedprox
from fedjax_het.algorithms.fedrep import fedrep
from fedjax_het.algorithms.fedyogi import fedyogi
from fedjax_het.algorithms.finetune import finetune
from fedjax_het.algorithms.ifca import ifca
from fedjax_het.algorithms.l2gd import l2gd
from fedjax_het.algorithms.lgfedavg import lgfedavg
from fedjax_het.algorithms.local_only import local_only
from fedjax_het.algorithms.meanreg import meanreg
from fedjax_het.algorithms.mocha import mocha
from fedjax_het.algorithms.perfedavg import perfedavg
from fedjax_het.algorithms.pfedme import pfedme
from fedjax_het.algorithms.qfedavg import qfedavg
from fedjax_het.algorithms.qfedsgd import qfedsgd
from fedjax_het.algorithms.scaffold import scaffold
from fedjax_het.algorithms.term import term
from fedjax_het.check import known

__all__ = ["ALGORITHMS", "Entry", "make"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        factory: (problem, solver, *, ...) -> algorithm.
        family: "global", "personal", "clustered", "multi-task" or "baseline".
        learns: what it learns.
        state: what a client keeps from one round to its next.
        cost: what a client sends a round, and what it receives if that differs (d: parameters, K: clusters).
        work: what a client computes in a round of E epochs (a pass: gradients of all its rows; F: a forward
            pass).
        best_for: where to reach for it.
        paper: authors and year.
        grid: what tuning tries of the method's own: (keyword argument, values) each. Only numbers that are
            leaves; what fixes a shape makes another method.
        everyone: whether the method is defined only when every client takes part in every round.
        unseen: whether it serves clients that it never trained with.
        per_row: whether what a client keeps has a place for each of its rows.
        needs: what it asks of the model: "normalisation" (`problem.facts.norm` names a layer),
            "linear" (`problem.facts.linear`), or "" (anything). Its factory refuses a model without it.
    """

    factory: Callable[..., Any]
    family: str
    learns: str
    state: str
    cost: str
    work: str
    best_for: str
    paper: str
    grid: tuple[tuple[str, tuple[float, ...]], ...] = ()
    everyone: bool = False
    unseen: bool = True
    per_row: bool = False
    needs: str = ""


# fmt: off
# two or three lines a method read better than ten
ALGORITHMS: dict[str, Entry] = {
    "fedavg": Entry(fedavg, "global", "one model", "nothing", "d", "E passes", "the reference",
        "McMahan et al. 2017"),
    "fedprox": Entry(fedprox, "global", "one model", "nothing", "d", "E passes", "uneven local work",
        "Li et al. 2020", (("mu", (0.1, 1.0)),)),
    "scaffold": Entry(scaffold, "global", "one model", "d (control)", "2d", "E passes", "drift",
        "Karimireddy et al. 2020"),
    "fednova": Entry(fednova, "global", "one model", "nothing", "d + 1", "E passes", "unequal steps",
        "Wang et al. 2020"),
    "feddyn": Entry(feddyn, "global", "one model", "d (dual)", "d", "E passes", "drift, cheap uplink",
        "Acar et al. 2021", (("alpha", (0.01, 0.1)),)),
    "fedavgm": Entry(fedavgm, "global", "one model", "nothing", "d", "E passes", "small or noisy cohorts",
        "Hsu et al. 2019", (("server_learning_rate", (0.1, 1.0)),)),
    "fedadagrad": Entry(fedadagrad, "global", "one model", "nothing", "d", "E passes", "sparse features",
        "Reddi et al. 2021", (("server_learning_rate", (0.01, 0.1)),)),
    "fedadam": Entry(fedadam, "global", "one model", "nothing", "d", "E passes", "uneven scales",
        "Reddi et al. 2021", (("server_learning_rate", (0.01, 0.1)),)),
    "fedyogi": Entry(fedyogi, "global", "one model", "nothing", "d", "E passes", "uneven scales, noisy updates",
        "Reddi et al. 2021", (("server_learning_rate", (0.01, 0.1)),)),
    "qfedavg": Entry(qfedavg, "global", "one model", "nothing", "d + 1", "E passes + F", "even losses",
        "Li et al. 2020", (("q", (0.1, 1.0)),)),
    "qfedsgd": Entry(qfedsgd, "global", "one model", "nothing", "d + 1", "1 batch", "even losses, no drift",
        "Li et al. 2020", (("q", (0.1, 1.0)),)),
    "term": Entry(term, "global", "one model", "nothing", "d + 1", "E passes + F",
        "even losses, or outlying clients", "Li et al. 2021", (("t", (0.1, 1.0)),)),
    "afl": Entry(afl, "global", "one model", "nothing", "d + 1", "1 batch", "the worst client, few clients",
        "Mohri et al. 2019", (("domain_learning_rate", (0.01, 0.1)),), everyone=True),
    "agnostic": Entry(agnostic, "global", "one model", "nothing", "d + 2 K + 1 (d + K down)", "E passes + F",
        "the worst domain", "Ro et al. 2021", (("domain_learning_rate", (0.01, 0.1)),)),
    "ifca": Entry(ifca, "clustered", "K models", "its cluster", "d (K d down)", "E passes + K F",
        "concept clusters", "Ghosh et al. 2020"),
    "cfl": Entry(cfl, "clustered", "up to K models", "nothing", "d", "E passes",
        "unknown number of clusters, 100s of rounds, no label skew", "Sattler et al. 2021",
        (("eps1", (0.1, 0.3)),), everyone=True),
    "cosine_cfl": Entry(cosine_cfl, "clustered", "up to K models", "nothing", "d", "E passes",
        "K clusters known to exist, early", "after Sattler et al. 2021", (("threshold", (0.0, 0.5)),),
        everyone=True),
    "fedper": Entry(fedper, "personal", "body + own heads", "head", "body", "E passes", "label skew",
        "Arivazhagan et al. 2019"),
    "lgfedavg": Entry(lgfedavg, "personal", "head + own bodies", "body", "head", "E passes",
        "feature skew, cheap uplink", "Liang et al. 2020"),
    "fedrep": Entry(fedrep, "personal", "body + own heads", "head", "body", "10 head passes + 1 body pass",
        "label skew, many like tasks", "Collins et al. 2021"),
    "fedbn": Entry(fedbn, "personal", "one model but for its normalisation", "normalisation",
        "all but normalisation", "E passes", "feature skew, models with BatchNorm", "Li et al. 2021",
        needs="normalisation"),
    "fedmtl": Entry(fedmtl, "multi-task", "trunk + a head a client or task", "head, or its task",
        "trunk (and head with tasks)", "E passes", "known tasks", "Caruana 1997"),
    "finetune": Entry(finetune, "personal", "one model, tuned by each client", "nothing", "d",
        "E passes; tuning before use", "the one to beat", "Wang et al. 2019"),
    "apfl": Entry(apfl, "personal", "one model + own mixtures", "2d + 1 (own model, mixture)", "d",
        "2 E passes", "clients between alike and alone", "Deng et al. 2020", (("alpha", (0.25, 0.75)),)),
    "perfedavg": Entry(perfedavg, "personal", "one model, a step from each client's", "nothing", "d",
        "4 E passes; 1 before use", "newcomers with few rows", "Fallah et al. 2020", (("alpha", (0.01, 0.1)),)),
    "mocha": Entry(mocha, "multi-task", "N related linear models", "a dual variable a row", "d",
        "E dual passes", "few clients, linear models", "Smith et al. 2017", (("strength", (0.001, 0.1)),),
        unseen=False, per_row=True, needs="linear"),
    "fedem": Entry(fedem, "clustered", "K models, mixed by each client", "K (mixture)", "K d",
        "K E passes + K F", "mixed populations", "Marfoq et al. 2021"),
    "pfedme": Entry(pfedme, "personal", "one model + proximal points of it", "nothing", "d",
        "K E passes; as many before use", "personal models without a state", "Dinh et al. 2020",
        (("server_learning_rate", (1.0, 2.0)),)),
    "ditto": Entry(ditto, "personal", "one model + N models held near it", "d (own model)", "d", "2 E passes",
        "both a global and a personal model", "Li et al. 2021", (("lam", (0.1, 1.0)),)),
    "meanreg": Entry(meanreg, "multi-task", "N models held near their mean", "d (own model)", "d", "E passes",
        "related tasks, no bias", "Evgeniou & Pontil 2004", (("lam", (0.1, 1.0)),)),
    "l2gd": Entry(l2gd, "personal", "N models held near their mean", "d (own model)", "d", "E passes, or none",
        "related tasks, rare averaging", "Hanzely & Richtarik 2020", (("lam", (0.01, 0.1)),)),
    "local_only": Entry(local_only, "baseline", "N models", "d", "nothing", "E passes", "much data per client",
        "-"),
}
# fmt: on


def make(name: str, problem: Any, solver: Any, **numbers: Any) -> Any:
    """The algorithm called `name`.

    Args:
        name: a key of `ALGORITHMS`.
        problem: what to learn.
        solver: local work.
        numbers: the factory's keyword arguments.

    Raises:
        ValueError: no method of this name; the nearest one is suggested.
    """
    known("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name].factory(problem, solver, **numbers)
