"""Federated methods, one file each; `ALGORITHMS` lists them."""

from fedjax_het.algorithms.fedavg import fedavg
from fedjax_het.algorithms.fedper import fedper
from fedjax_het.algorithms.fedprox import fedprox
from fedjax_het.algorithms.ifca import ifca
from fedjax_het.algorithms.local_only import local_only
from fedjax_het.algorithms.scaffold import scaffold
from fedjax_het.algorithms.table import ALGORITHMS, Entry, make

__all__ = ["ALGORITHMS", "Entry", "fedavg", "fedper", "fedprox", "ifca", "local_only", "make", "scaffold"]
