"""Federated methods, one file each; `ALGORITHMS` lists them."""

from fedjax_het.algorithms.adaptive_prox import adaptive_mu
from fedjax_het.algorithms.afl import afl
from fedjax_het.algorithms.agnostic import agnostic
from fedjax_het.algorithms.apfl import apfl
from fedjax_het.algorithms.cfl import cfl
from fedjax_het.algorithms.cosine_cfl import cosine_cfl
from fedjax_het.algorithms.ditto import ditto
from fedjax_het.algorithms.duality_gap import duality_gap
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
from fedjax_het.algorithms.lgfedavg import ensemble, lgfedavg
from fedjax_het.algorithms.local_only import local_only
from fedjax_het.algorithms.meanreg import meanreg
from fedjax_het.algorithms.mocha import mocha
from fedjax_het.algorithms.mocha_primal import mocha_primal
from fedjax_het.algorithms.newcomers import mean_start
from fedjax_het.algorithms.partial import partial
from fedjax_het.algorithms.perfedavg import perfedavg
from fedjax_het.algorithms.pfedme import pfedme
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
    "apfl",
    "cfl",
    "cosine_cfl",
    "ditto",
    "duality_gap",
    "ensemble",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "fedbn",
    "feddyn",
    "fedem",
    "fedmtl",
    "fednova",
    "fedper",
    "fedprox",
    "fedrep",
    "fedyogi",
    "finetune",
    "ifca",
    "l2gd",
    "lgfedavg",
    "local_only",
    "make",
    "mean_start",
    "meanreg",
    "mocha",
    "mocha_primal",
    "partial",
    "perfedavg",
    "pfedme",
    "qfedavg",
    "qfedsgd",
    "scaffold",
    "term",
]
