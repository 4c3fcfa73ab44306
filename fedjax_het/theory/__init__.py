"""Experiments on theory: each a function that returns numbers, claims and a picture.

    from fedjax_het import plots, theory
    found = theory.toy(rounds=50)
    print(found)
    plots.save(found.figure(), "toy.png")

On quadratics the pictures' lines are exact, from `fh.analysis.oracles`, and points are the engine's own runs;
the pictures of other models say that all is measured.
"""

from fedjax_het.theory.best_steps import best_steps
from fedjax_het.theory.bias_map import bias_map
from fedjax_het.theory.bounds import bounds
from fedjax_het.theory.contraction import contraction
from fedjax_het.theory.ellipses import ellipses
from fedjax_het.theory.figure1 import li2020
from fedjax_het.theory.finding import Claim, Finding
from fedjax_het.theory.floor import floor
from fedjax_het.theory.local_steps import local_steps
from fedjax_het.theory.network import network
from fedjax_het.theory.paths import paths
from fedjax_het.theory.table import EXPERIMENTS, Entry, experiment
from fedjax_het.theory.toy import toy

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Entry",
    "Finding",
    "best_steps",
    "bias_map",
    "bounds",
    "contraction",
    "ellipses",
    "experiment",
    "floor",
    "li2020",
    "local_steps",
    "network",
    "paths",
    "toy",
]
