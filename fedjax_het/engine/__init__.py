"""Runs any algorithm, imports none."""

from fedjax_het.engine import executors, sampling
from fedjax_het.engine.blocks import make_block
from fedjax_het.engine.evaluate import Evaluation, evaluate
from fedjax_het.engine.history import History, Variable, stack
from fedjax_het.engine.newcomers import adapt
from fedjax_het.engine.nonfinite import NonFiniteError
from fedjax_het.engine.rounds import Round, make_round
from fedjax_het.engine.simulate import simulate
from fedjax_het.engine.state import State, initial_state
from fedjax_het.engine.survey import replay, survey

__all__ = [
    "Evaluation",
    "History",
    "NonFiniteError",
    "Round",
    "State",
    "Variable",
    "adapt",
    "evaluate",
    "executors",
    "initial_state",
    "make_block",
    "make_round",
    "replay",
    "sampling",
    "simulate",
    "stack",
    "survey",
]
