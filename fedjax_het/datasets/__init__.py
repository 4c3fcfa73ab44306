"""Pools and natural federations to experiment on."""

from fedjax_het.datasets.chem97 import chem97, chem97_table
from fedjax_het.datasets.digits import digits
from fedjax_het.datasets.fashion_mnist import fashion_mnist
from fedjax_het.datasets.feddyn import synthetic_feddyn
from fedjax_het.datasets.flights import flights, flights_table
from fedjax_het.datasets.flower import from_flower
from fedjax_het.datasets.gaussian_clusters import gaussian_clusters
from fedjax_het.datasets.hugging_face import from_hugging_face
from fedjax_het.datasets.insteval import insteval, insteval_table
from fedjax_het.datasets.leaf import from_leaf
from fedjax_het.datasets.local_global_regression import local_global_regression
from fedjax_het.datasets.mixed_regression import mixed_regression
from fedjax_het.datasets.mixture import mixture
from fedjax_het.datasets.npz import load_npz, save_npz
from fedjax_het.datasets.published import (
    synthetic_fedprox,
    synthetic_fedprox_iid,
    synthetic_hybrid,
    synthetic_li,
    synthetic_li_iid,
    synthetic_pfedme,
    synthetic_qffl,
    synthetic_qffl_iid,
)
from fedjax_het.datasets.shakespeare import shakespeare, shakespeare_table
from fedjax_het.datasets.synthetic import synthetic
from fedjax_het.datasets.table import Table
from fedjax_het.datasets.tff import from_tff_hdf5
from fedjax_het.datasets.torch_data import from_torch

__all__ = [
    "Table",
    "chem97",
    "chem97_table",
    "digits",
    "fashion_mnist",
    "flights",
    "flights_table",
    "from_flower",
    "from_hugging_face",
    "from_leaf",
    "from_tff_hdf5",
    "from_torch",
    "gaussian_clusters",
    "insteval",
    "insteval_table",
    "load_npz",
    "local_global_regression",
    "mixed_regression",
    "mixture",
    "save_npz",
    "shakespeare",
    "shakespeare_table",
    "synthetic",
    "synthetic_feddyn",
    "synthetic_fedprox",
    "synthetic_fedprox_iid",
    "synthetic_hybrid",
    "synthetic_li",
    "synthetic_li_iid",
    "synthetic_pfedme",
    "synthetic_qffl",
    "synthetic_qffl_iid",
]
