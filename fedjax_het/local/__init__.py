"""What one client does: solvers, batches, schedules."""

from fedjax_het.local.batching import Plan, fold, plan
from fedjax_het.local.optimizers import Gradient, Optax, gradient, optimizer
from fedjax_het.local.schedules import Clock, Schedule, geometric, inverse_time, schedule
from fedjax_het.local.solver import Probe, Solution, Solver, from_optax, sgd
from fedjax_het.local.variants import inexact, restarted, scanned, traced

__all__ = [
    "Clock",
    "Gradient",
    "Optax",
    "Plan",
    "Probe",
    "Schedule",
    "Solution",
    "Solver",
    "fold",
    "from_optax",
    "geometric",
    "gradient",
    "inexact",
    "inverse_time",
    "optimizer",
    "plan",
    "restarted",
    "scanned",
    "schedule",
    "sgd",
    "traced",
]
