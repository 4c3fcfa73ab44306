"""Federated methods, one file each; `ALGORITHMS` lists them."""

from fedjax_het.algorithms.adaptive_prox import adaptive_mu
from fedjax_het.algorithms.afl import afl
from fedjax_het.algorithms.agnostic import agnostic
from fedjax_het.algorithms.fedadagrad import fedadagrad
from fedjax_het.algorithms.fedadam import fedadam
from fedjax_het.algorithms.fedavg import fedavg
from fedjax_het.algorithms.fedavgm import fedavgm
from fedjax_het.algorithms.feddyn import feddyn
from fedjax_het.algorithms.fednova import fednova
from fedjax_het.algorithms.fedper import fedper
from fedjax_het.algorithms.fedprox import fedprox
from fedjax_het.algorithms.fedyogi import fedyogi
from fedjax_het.algorithms.ifca import ifca
from fedjax_het.algorithms.local_only import local_only
from fedjax_het.algorithms.qfedavg import qfedavg
from fedjax_het.algorithms.qfedsgd import qfedsgd
from fedjax_het.algorithms.scaffold import scaffold
from fedjax_het.algorithms.table import ALGORITHMS, Entry, make
from fedjax_het.algorithms.term import term

__all__ = [
    "ALGORITHMS",
    "Entry",
    "adaptive_mu",
    "afl",
    "agnostic",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "feddyn",
    "fednova",
    "fedper",
    "fedprox",
    "fedyogi",
    "ifca",
    "local_only",
    "make",
    "qfedavg",
    "qfedsgd",
    "scaffold",
    "term",
]
