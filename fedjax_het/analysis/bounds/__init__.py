"""Bounds: what theorems say of a run, in their own conditions, with every constant's provenance.

    known = constants.of_quadratics(functions, start, noise)
    bound = bounds.explicit.e1(known, 0.01, local_steps=5, horizon=1000)
    bound.values, bound.terms, bound.validity, bound.may_hold

One module a paper. A bound is a function (constants, schedule, local_steps, horizon) -> `Curve`; outside its
conditions its values are nan and its `validity` says which, and the nearest legal value. Everything is computed
on the host in double precision. Steps are gradient steps of a client: rounds times local steps.

| tag | what it means | may hold |
|---|---|---|
| S | the published statement was read, constants included | yes |
| D | derived and proved here | yes |
| M | a published statement from memory: constants may be off | no |
| O | known up to a constant or logarithms: a shape | no |
| X | no theorem | no |
"""

from fedjax_het.analysis.bounds import (
    explicit,
    fednova,
    fedopt,
    fedprox,
    iid,
    karimireddy,
    khaled,
    koloskova,
    li2020,
    scaffold,
    tutorial,
    woodworth,
    yu2019,
)
from fedjax_het.analysis.bounds.convert import gap_of_distance
from fedjax_het.analysis.bounds.curve import TAGS, Curve, Statement

__all__ = [
    "TAGS",
    "Curve",
    "Statement",
    "explicit",
    "fednova",
    "fedopt",
    "fedprox",
    "gap_of_distance",
    "iid",
    "karimireddy",
    "khaled",
    "koloskova",
    "li2020",
    "scaffold",
    "tutorial",
    "woodworth",
    "yu2019",
]
