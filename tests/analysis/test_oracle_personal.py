"""Methods with models of clients' own on ten random federations each: the engine's rounds are the oracle's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from federations import (
    SIZES,
    UNEQUAL,
    Alone,
    Apfl,
    Case,
    Ditto,
    Heads,
    Models,
    N,
    Parts,
    Point,
    agree,
    one_by_one,
)

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.models import selectors

V = selectors.matching("v$")


def l2gd(together):
    def oracle(f):
        equal = dataclasses.replace(f, p=jnp.full(N, 1 / N))
        return oracles.l2gd(equal, lam=0.4, p=0.3, **UNEQUAL)[int(together)]

    state = Models((1,) * N, together)
    return Case("l2gd", one_by_one(), {"lam": 0.4, "p": 0.3}, state, oracle, again=True, settles=not together)


CASES = {
    "perfedavg": lambda: Case(
        "perfedavg", one_by_one(), {"alpha": 0.2}, Point(), lambda f: oracles.perfedavg(f, alpha=0.2, **UNEQUAL)
    ),
    "perfedavg, first order": lambda: Case(
        "perfedavg",
        one_by_one(),
        {"alpha": 0.2, "variant": "fo"},
        Point(),
        lambda f: oracles.perfedavg(f, alpha=0.2, variant="fo", **UNEQUAL),
    ),
    "ditto": lambda: Case(
        "ditto",
        one_by_one(),
        {"lam": 0.8, "personal": fh.local.sgd(0.2, batch_size=None, steps=3)},
        Ditto(),
        lambda f: oracles.ditto(f, lam=0.8, personal_learning_rate=0.2, personal_steps=3, **UNEQUAL),
    ),
    "apfl": lambda: Case(
        "apfl", one_by_one(), {"alpha": 0.4}, Apfl(), lambda f: oracles.apfl(f, alpha=0.4, **UNEQUAL)
    ),
    "meanreg": lambda: Case(
        "meanreg", one_by_one(), {"lam": 0.8}, Models(), lambda f: oracles.meanreg(f, lam=0.8, **UNEQUAL)
    ),
    "l2gd, alone": lambda: l2gd(False),
    "l2gd, together": lambda: l2gd(True),
    "partial, jointly": lambda: Case(
        "fedper",
        one_by_one(),
        {"personal": V},
        Parts(),
        lambda f: oracles.partial(f, personal=[1], **UNEQUAL),
        two=True,
    ),
    "partial, in turns": lambda: Case(
        "fedrep",
        one_by_one(),
        {"personal": V, "head_epochs": 2},
        Parts(),
        lambda f: oracles.partial(f, personal=[1], own_steps=2 * np.asarray(SIZES), **UNEQUAL),
        two=True,
    ),
    "hard sharing": lambda: Case(
        "fedmtl",
        one_by_one(),
        {"personal": V, "tasks": (0, 1, 0, 1)},
        Heads(),
        lambda f: oracles.hard_sharing(f, personal=[1], tasks=(0, 1, 0, 1), **UNEQUAL),
        two=True,
    ),
    "local_only": lambda: Case(
        "local_only", one_by_one(), {}, Alone(), lambda f: oracles.partial(f, personal=[0, 1, 2], **UNEQUAL)
    ),
}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", CASES)
def test_the_engine_is_the_oracle(name):
    agree(CASES[name]())
