"""Samplers: who takes part in a round, and how much of the work each will do."""

from fedjax_het.engine.sampling.available import Available, Pattern, available
from fedjax_het.engine.sampling.bernoulli import Bernoulli, bernoulli, slots_for
from fedjax_het.engine.sampling.by_id import Fixed, Scripted, fixed, scripted
from fedjax_het.engine.sampling.cyclic import Cyclic, cyclic
from fedjax_het.engine.sampling.dropout import Dropout, dropout
from fedjax_het.engine.sampling.intermittent import BySize, Coins, by_size, intermittent
from fedjax_het.engine.sampling.labels import label_chances
from fedjax_het.engine.sampling.markov import Markov, markov
from fedjax_het.engine.sampling.periodic import Periodic, periodic
from fedjax_het.engine.sampling.power_of_choice import PowerOfChoice, power_of_choice
from fedjax_het.engine.sampling.sampler import Draw, Sampler, counted, full, some, without
from fedjax_het.engine.sampling.stragglers import Stragglers, stragglers
from fedjax_het.engine.sampling.uniform import Everyone, Uniform, everyone, uniform
from fedjax_het.engine.sampling.weighted import Weighted, given, proportional

__all__ = [
    "Available",
    "Bernoulli",
    "BySize",
    "Coins",
    "Cyclic",
    "Draw",
    "Dropout",
    "Everyone",
    "Fixed",
    "Markov",
    "Pattern",
    "Periodic",
    "PowerOfChoice",
    "Sampler",
    "Scripted",
    "Stragglers",
    "Uniform",
    "Weighted",
    "available",
    "bernoulli",
    "by_size",
    "counted",
    "cyclic",
    "dropout",
    "everyone",
    "fixed",
    "full",
    "given",
    "intermittent",
    "label_chances",
    "markov",
    "periodic",
    "power_of_choice",
    "proportional",
    "scripted",
    "slots_for",
    "some",
    "stragglers",
    "uniform",
    "without",
]
