"""Oracles: on quadratics a round is an affine map, so that limits, paths and rates are known exactly.

    functions = oracles.quadratics(A, a, weights=sizes)
    round_map = oracles.fedavg(functions, learning_rate=0.1, steps=5)
    round_map.fixed_point - functions.optimum, round_map.rate, round_map.trajectory(start, 50)

With noisy gradients and sampled clients the model is random, and its mean and covariance are known as exactly:

    noise = oracles.gradient_noise(federation, batch_size=10)
    drawn = oracles.moments(functions, learning_rate=0.1, steps=5, noise=noise, scheme="I", cohort=10)
    drawn.trajectory(start, 50).gap(functions), drawn.stationary.covariance

Everything is a pure function of arrays, in double precision where that is on; rates, steps and the functions
themselves may be tracers, so that `jax.vmap` sweeps them.
"""

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import fedavg, fednova, fedprox
from fedjax_het.analysis.oracles.beside import apfl, ditto
from fedjax_het.analysis.oracles.bias import drift_bias, prox_bias
from fedjax_het.analysis.oracles.feddyn import douglas_rachford, feddyn
from fedjax_het.analysis.oracles.functions import Quadratics, envelope, quadratics, quadratics_of
from fedjax_het.analysis.oracles.hard_sharing import hard_sharing
from fedjax_het.analysis.oracles.joint import Joint, joint, split
from fedjax_het.analysis.oracles.moments import Moments, RandomAffine, moments
from fedjax_het.analysis.oracles.momentum import server_momentum
from fedjax_het.analysis.oracles.near_mean import Coin, l2gd, meanreg
from fedjax_het.analysis.oracles.noise import Noise, gradient_noise
from fedjax_het.analysis.oracles.partial import partial
from fedjax_het.analysis.oracles.perfedavg import perfedavg
from fedjax_het.analysis.oracles.pfedme import pfedme
from fedjax_het.analysis.oracles.scaffold import scaffold, scaffold_fresh
from fedjax_het.analysis.oracles.stability import contraction, extremes, inexactness, step_limit

__all__ = [
    "Affine",
    "Coin",
    "Joint",
    "Moments",
    "Noise",
    "Quadratics",
    "RandomAffine",
    "affine_probe",
    "apfl",
    "contraction",
    "ditto",
    "douglas_rachford",
    "drift_bias",
    "envelope",
    "extremes",
    "feddyn",
    "fedavg",
    "fednova",
    "fedprox",
    "gradient_noise",
    "hard_sharing",
    "inexactness",
    "joint",
    "l2gd",
    "meanreg",
    "moments",
    "partial",
    "perfedavg",
    "pfedme",
    "prox_bias",
    "quadratics",
    "quadratics_of",
    "scaffold",
    "scaffold_fresh",
    "server_momentum",
    "split",
    "step_limit",
]
