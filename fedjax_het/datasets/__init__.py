"""Pools and natural federations to experiment on."""

from fedjax_het.datasets.digits import digits
from fedjax_het.datasets.fashion_mnist import fashion_mnist
from fedjax_het.datasets.npz import load_npz, save_npz
from fedjax_het.datasets.synthetic import synthetic

__all__ = ["digits", "fashion_mnist", "load_npz", "save_npz", "synthetic"]
