"""Samplers: who takes part in a round, and how much of the work each will do."""

from fedjax_het.engine.sampling.by_id import Fixed, Scripted, fixed, scripted
from fedjax_het.engine.sampling.sampler import Draw, Sampler, full
from fedjax_het.engine.sampling.uniform import Everyone, Uniform, everyone, uniform

__all__ = [
    "Draw",
    "Everyone",
    "Fixed",
    "Sampler",
    "Scripted",
    "Uniform",
    "everyone",
    "fixed",
    "full",
    "scripted",
    "uniform",
]
