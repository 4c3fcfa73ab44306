"""Methods of one model on ten random federations each: the engine's rounds are the oracle's."""

import jax
import pytest
from federations import EQUAL, UNEQUAL, Case, Memory, Momentum, Point, agree, full, one_by_one

from fedjax_het.analysis import oracles

PFEDME = {"lam": 1.5, "personal_learning_rate": 0.2, "inner_steps": 3, "server_learning_rate": 1.3}
CASES = {
    "fedavg": lambda: Case("fedavg", one_by_one(), {}, Point(), lambda f: oracles.fedavg(f, **UNEQUAL)),
    "fedprox": lambda: Case(
        "fedprox", full(), {"mu": 0.7}, Point(), lambda f: oracles.fedprox(f, mu=0.7, **EQUAL)
    ),
    "fednova": lambda: Case(
        "fednova",
        one_by_one(momentum=0.6),
        {"mu": 0.4},
        Point(),
        lambda f: oracles.fednova(f, mu=0.4, momentum=0.6, **UNEQUAL),
    ),
    "fedavgm": lambda: Case(
        "fedavgm",
        full(),
        {"momentum": 0.6, "server_learning_rate": 0.5},
        Momentum(),
        lambda f: oracles.server_momentum(oracles.fedavg(f, **EQUAL), beta=0.6, server_learning_rate=0.5),
    ),
    "scaffold I": lambda: Case(
        "scaffold",
        one_by_one(),
        {"option": "I", "weights": "proportional"},
        Memory("control"),
        lambda f: oracles.scaffold(f, option="I", **UNEQUAL),
    ),
    "scaffold II": lambda: Case(
        "scaffold",
        one_by_one(),
        {"option": "II", "weights": "proportional"},
        Memory("control"),
        lambda f: oracles.scaffold(f, option="II", **UNEQUAL),
    ),
    "feddyn": lambda: Case(
        "feddyn",
        full(),
        {"alpha": 0.9, "weights": "proportional"},
        Memory("dual"),
        lambda f: oracles.feddyn(f, alpha=0.9, **EQUAL),
    ),
    "pfedme": lambda: Case(
        "pfedme", one_by_one(), PFEDME, Point(), lambda f: oracles.pfedme(f, **PFEDME, **UNEQUAL)
    ),
    "pfedme, carried over": lambda: Case(
        "pfedme",
        one_by_one(),
        {**PFEDME, "carry_over": True},
        Point(),
        lambda f: oracles.pfedme(f, carry_over=True, **PFEDME, **UNEQUAL),
    ),
}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", CASES)
def test_the_engine_is_the_oracle(name):
    agree(CASES[name]())
