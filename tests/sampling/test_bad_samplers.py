"""What samplers refuse: at once where the number is given, at the start of a run where N is needed."""

import re

import numpy as np
import pytest

from fedjax_het import sampling

UNIFORM = sampling.uniform(3)

AT_ONCE = {
    "size": (lambda: sampling.uniform(0), "size must be >= 1, got 0"),
    "size of draws": (lambda: sampling.proportional(0), "size must be >= 1, got 0"),
    "size, given": (lambda: sampling.given(-1, [1.0]), "size must be >= 1, got -1"),
    "sum": (lambda: sampling.given(2, [0.5, 0.4]), "probabilities must sum to 1, got 0.9: divide"),
    "nearly": (lambda: sampling.given(1, [0.5, 0.500002]), "probabilities must sum to 1, got 1.000002"),
    "negative": (lambda: sampling.given(1, [1.5, -0.5]), "probabilities must be >= 0, got"),
    "not a list": (lambda: sampling.given(1, 1.0), "probabilities must be one number a client"),
    "too few likely": (
        lambda: sampling.given(2, [1.0, 0.0], replacement=False),
        "size must be <= the number of clients with a probability above 0, got 2 of 1",
    ),
    "chance": (lambda: sampling.bernoulli(1.5, slots=3), "chance must be <= 1"),
    "one chance": (lambda: sampling.bernoulli([0.5, -0.1], slots=1), "chance must be >= 0"),
    "slots": (lambda: sampling.bernoulli(0.5, slots=0), "slots must be >= 1"),
    "slots_for": (lambda: sampling.slots_for(1.5, 10), "chance must be <= 1"),
    "period": (lambda: sampling.periodic(2, period=0), "period must be >= 1, got 0"),
    "never": (lambda: sampling.periodic(2, period=4, on_for=0.1), "on_for must be at least one round"),
    "part": (lambda: sampling.periodic(2, period=4, on_for=1.2), "on_for must be <= 1"),
    "phase": (lambda: sampling.periodic(2, period=4, phase=-1), "phase must be >= 0"),
    "leave": (lambda: sampling.markov(2, leave=-0.1, join=0.2), "leave must be >= 0"),
    "join": (lambda: sampling.markov(2, leave=0.1, join=1.2), "join must be <= 1"),
    "frozen": (lambda: sampling.markov(2, leave=[0.1, 0], join=[0.1, 0]), "leave and join must not both be 0"),
    "lists": (lambda: sampling.markov(2, leave=[0.1] * 2, join=[0.1] * 3), "leave and join must have as many"),
    "available": (lambda: sampling.intermittent(2, 2.0), "chance must be <= 1"),
    "candidates": (lambda: sampling.power_of_choice(4, candidates=3), "candidates must be >= 4, got 3"),
    "groups": (lambda: sampling.cyclic(4, groups=0), "groups must be >= 1"),
    "dropout": (lambda: sampling.dropout(UNIFORM, -0.1), "chance must be >= 0"),
    "fraction": (lambda: sampling.stragglers(UNIFORM, 1.1, epochs=5), "fraction must be <= 1"),
    "epochs": (lambda: sampling.stragglers(UNIFORM, 0.5, epochs=1), "epochs must be >= 2, got 1"),
    "policy": (lambda: sampling.stragglers(UNIFORM, 0.5, epochs=5, policy="late"), "policy must be one of"),
    "rule": (lambda: sampling.label_chances(None, 0.5, rule="most"), "rule must be one of"),
}

AT_THE_START = {
    "size": (lambda: sampling.uniform(7), "cohort size must be <= the number of clients, got 7 of 6"),
    "by size": (lambda: sampling.proportional(7, replacement=False), "size must be <= the number of clients"),
    "probabilities": (
        lambda: sampling.given(2, [0.2] * 5),
        "one number for each of the 6 clients, got shape (5,)",
    ),
    "slots": (lambda: sampling.bernoulli(0.1, slots=7), "slots must be <= the number of clients, got 7 of 6"),
    "few slots": (
        lambda: sampling.bernoulli(0.5, slots=2),
        "slots must be >= the 3 clients expected of 6, got 2: slots=6 are practically never too few",
    ),
    "chances": (
        lambda: sampling.bernoulli([0.1] * 5, slots=2),
        "each of the 6 clients, got shape (5,)",
    ),
    "available": (lambda: sampling.periodic(7, period=3), "size must be <= the number of clients"),
    "phases": (
        lambda: sampling.periodic(2, period=3, phase=[0, 1]),
        "phase must be one number, or one",
    ),
    "leave": (
        lambda: sampling.markov(2, leave=[0.1] * 5, join=0.1),
        "leave must be one number, or one",
    ),
    "candidates": (lambda: sampling.power_of_choice(2, candidates=7), "candidates must be <= the number of"),
    "cyclic": (lambda: sampling.cyclic(7), "size must be <= the number of clients"),
    "groups": (
        lambda: sampling.cyclic(3, groups=3),
        "size must be <= the clients of a group, got 3 of 2 in 3 groups of 6 clients",
    ),
    "dropout": (lambda: sampling.dropout(UNIFORM, [0.1] * 5), "chance must be one number, or one for each"),
    "inner": (
        lambda: sampling.dropout(sampling.stragglers(sampling.uniform(9), 0.5, epochs=2), 0.1),
        "cohort size must be <= the number of clients, got 9 of 6",
    ),
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_refused_at_once(name):
    make, message = AT_ONCE[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", AT_THE_START)
def test_refused_at_the_start_of_a_run(name):
    make, message = AT_THE_START[name]
    sampler = make()
    with pytest.raises(ValueError, match=re.escape(message)):
        sampler.init(6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sampling.uniform(2.5),
        lambda: sampling.bernoulli("half", slots=3),
        lambda: sampling.given(2, ["a", "b"]),
        lambda: sampling.periodic(2, period=2.5),
        lambda: sampling.stragglers(UNIFORM, 0.5, epochs=2.5),
        lambda: sampling.label_chances([[1, 0]], 0.5),
    ],
)
def test_refused_kinds(make):
    with pytest.raises(TypeError, match="must be"):
        make()


def test_with_replacement_there_may_be_more_draws_than_clients():
    for sampler in (
        sampling.uniform(9, replacement=True),
        sampling.proportional(9),
        sampling.given(9, np.full(6, 1 / 6)),
    ):
        assert sampler.init(6) == ()


def test_probabilities_may_be_rounded():
    shares = np.random.default_rng(0).dirichlet(np.ones(1000)).astype(np.float32)
    assert sampling.given(10, shares).init(1000) == ()
