"""Oracles: on quadratics a round is an affine map, so that limits, paths and rates are known exactly.

    functions = oracles.quadratics(A, a, weights=sizes)
    round_map = oracles.fedavg(functions, learning_rate=0.1, steps=5)
    round_map.fixed_point - functions.optimum, round_map.rate, round_map.trajectory(start, 50)

Everything is a pure function of arrays, in double precision where that is on; rates, steps and the functions
themselves may be tracers, so that `jax.vmap` sweeps them.
"""

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import fedavg, fednova, fedprox
from fedjax_het.analysis.oracles.bias import drift_bias, prox_bias
from fedjax_het.analysis.oracles.feddyn import douglas_rachford, feddyn
from fedjax_het.analysis.oracles.functions import Quadratics, envelope, quadratics, quadratics_of
from fedjax_het.analysis.oracles.joint import Joint, joint, split
from fedjax_het.analysis.oracles.momentum import server_momentum
from fedjax_het.analysis.oracles.scaffold import scaffold, scaffold_fresh
from fedjax_het.analysis.oracles.stability import contraction, extremes, inexactness, step_limit

__all__ = [
    "Affine",
    "Joint",
    "Quadratics",
    "affine_probe",
    "contraction",
    "douglas_rachford",
    "drift_bias",
    "envelope",
    "extremes",
    "feddyn",
    "fedavg",
    "fednova",
    "fedprox",
    "inexactness",
    "joint",
    "prox_bias",
    "quadratics",
    "quadratics_of",
    "scaffold",
    "scaffold_fresh",
    "server_momentum",
    "split",
    "step_limit",
]
