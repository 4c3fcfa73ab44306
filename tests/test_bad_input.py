"""What is refused: the type of the error, a message with name, value and remedy, and nothing compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import compile_count

import fedjax_het as fh
from fedjax_het import algorithms, executors, local, sampling, weighting
from fedjax_het.algorithms.table import make
from fedjax_het.models import mlp, quadratic, quadratic_federation, selectors, softmax


def _federation():
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(20, 2)), rng.integers(0, 2, 20), num_classes=2)
    return pool, fh.from_index_lists(pool, None, np.split(np.arange(20), 5), test=0.0)


POOL, FEDERATION = _federation()
PROBLEM, SOLVER = softmax(POOL), local.sgd(0.1, batch_size=4)
NETWORK = mlp(POOL, hidden=(3,))
BOWL = quadratic_federation(np.ones((2, 1, 1)), np.zeros((2, 1)))
HEADLESS = quadratic(fh.Pool(BOWL.x, BOWL.y, BOWL.spec.pool))
FEDAVG = algorithms.fedavg(PROBLEM, SOLVER)
ROUND = fh.make_round(sampling.everyone(), executors.looped())
KEY = jax.random.key(0)
STATE = fh.initial_state(FEDAVG, FEDERATION, key=KEY, round_fn=ROUND)
LEGACY = jnp.zeros(2, jnp.uint32)
ADAM = local.from_optax(optax.adam, learning_rate=0.1, batch_size=4)


def simulate(**options):
    return fh.simulate(FEDAVG, FEDERATION, **{"key": KEY, "rounds": 2, **options})


def say(unit, count):
    return count


# what is called, the error, the argument's name, the value as the message shows it, a word of the remedy
LOCAL = {
    "rate of zero": (lambda: local.sgd(0, batch_size=4), ValueError, "learning_rate", "0", "positive"),
    "negative rate": (lambda: local.sgd(-0.1, batch_size=4), ValueError, "learning_rate", "-0.1", "positive"),
    "rate of nan": (lambda: local.sgd(np.nan, batch_size=4), ValueError, "learning_rate", "nan", "positive"),
    "rate as text": (lambda: local.sgd("0.1", batch_size=4), TypeError, "learning_rate", "'0.1'", "positive"),
    "no rate": (lambda: local.sgd(None, batch_size=4), TypeError, "learning_rate", "None", "positive"),
    "batch of none": (lambda: local.sgd(0.1, batch_size=0), ValueError, "batch_size", "0", "None"),
    "batch of 2.5": (lambda: local.sgd(0.1, batch_size=2.5), TypeError, "batch_size", "2.5", "None"),
    "batch of True": (lambda: local.sgd(0.1, batch_size=True), TypeError, "batch_size", "True", "None"),
    "momentum of 1": (lambda: local.sgd(0.1, batch_size=4, momentum=1.0), ValueError, "momentum", "1.0", "0.9"),
    "negative momentum": (
        lambda: local.sgd(0.1, batch_size=4, momentum=-0.1),
        ValueError,
        "momentum",
        "-0.1",
        "0.9",
    ),
    "no epochs": (lambda: local.sgd(0.1, batch_size=4, epochs=0), ValueError, "epochs", "0", "at least"),
    "half an epoch": (lambda: local.sgd(0.1, batch_size=4, epochs=0.5), TypeError, "epochs", "0.5", "at least"),
    "no steps": (lambda: local.sgd(0.1, batch_size=4, steps=0), ValueError, "steps", "0", "at least"),
    "epochs and steps": (
        lambda: local.sgd(0.1, batch_size=4, epochs=1, steps=2),
        ValueError,
        "epochs and steps",
        "epochs=1, steps=2",
        "choose one",
    ),
    "no factory": (lambda: local.from_optax(0.1, batch_size=4), TypeError, "factory", "0.1", "function itself"),
    "finished and arguments": (
        lambda: local.from_optax(optax.adam(0.1), batch_size=4, b1=0.9),
        TypeError,
        "factory",
        "['b1']",
        "optax.adam",
    ),
    "factory of something else": (
        lambda: local.from_optax(optax.constant_schedule, batch_size=4, value=0.1),
        TypeError,
        "factory",
        "function",
        "optax.adam",
    ),
    "negative optax rate": (
        lambda: local.from_optax(optax.adam, batch_size=4, learning_rate=-1.0),
        ValueError,
        "learning_rate",
        "-1.0",
        "positive",
    ),
    "infinite optax number": (
        lambda: local.from_optax(optax.adam, batch_size=4, learning_rate=0.1, b1=np.inf),
        ValueError,
        "b1",
        "inf",
        "finite",
    ),
    "unknown clock": (
        lambda: local.schedule(say, unit="rounds"),
        ValueError,
        "unit",
        "'rounds'",
        "mean 'round'",
    ),
    "no function": (lambda: local.schedule(0.1), TypeError, "function", "0.1", "function of the step"),
    "inverse of zero": (lambda: local.inverse_time(0, 1), ValueError, "numerator", "0", "step size"),
    "negative offset": (lambda: local.inverse_time(1, -1), ValueError, "offset", "-1", "step size"),
    "factor of zero": (lambda: local.geometric(1, 0), ValueError, "factor", "0", "step size"),
    "no static steps": (lambda: local.scanned(SOLVER, 0), ValueError, "most", "0", "most work"),
    "no room": (lambda: local.traced(SOLVER, print, 0), ValueError, "room", "0", "steps"),
}

ALGORITHMS = {
    "negative mu": (lambda: algorithms.fedprox(PROBLEM, SOLVER, mu=-1), ValueError, "mu", "-1", "FedAvg"),
    "mu as text": (lambda: algorithms.fedprox(PROBLEM, SOLVER, mu="1"), TypeError, "mu", "'1'", "FedAvg"),
    "unknown option": (
        lambda: algorithms.scaffold(PROBLEM, SOLVER, option="III"),
        ValueError,
        "option",
        "'III'",
        "mean 'II'",
    ),
    "option II and momentum": (
        lambda: algorithms.scaffold(PROBLEM, local.sgd(0.1, batch_size=4, momentum=0.9)),
        ValueError,
        "option",
        "'II' with kind 'momentum'",
        "'I'",
    ),
    "option II and adam": (
        lambda: algorithms.scaffold(PROBLEM, ADAM),
        ValueError,
        "option",
        "'II' with kind 'adaptive'",
        "'I'",
    ),
    "no server rate": (
        lambda: algorithms.scaffold(PROBLEM, SOLVER, server_learning_rate=0),
        ValueError,
        "server_learning_rate",
        "0",
        "mean update",
    ),
    "no clusters": (
        lambda: algorithms.ifca(PROBLEM, SOLVER, clusters=0),
        ValueError,
        "clusters",
        "0",
        "FedAvg",
    ),
    "2.0 clusters": (
        lambda: algorithms.ifca(PROBLEM, SOLVER, clusters=2.0),
        TypeError,
        "clusters",
        "2.0",
        "FedAvg",
    ),
    "nothing personal": (
        lambda: algorithms.fedper(NETWORK, SOLVER, personal=selectors.matching("tail")),
        ValueError,
        "selector",
        "none",
        "head/kernel",
    ),
    "everything personal": (
        lambda: algorithms.fedper(NETWORK, SOLVER, personal=selectors.matching("")),
        ValueError,
        "selector",
        "all",
        "head/kernel",
    ),
    "everything is the head": (
        lambda: algorithms.fedper(PROBLEM, SOLVER),
        ValueError,
        "selector",
        "all",
        "head/",
    ),
    "unknown head": (lambda: algorithms.fedper(HEADLESS, SOLVER), ValueError, "problem", "head=()", "matching"),
    "no pull": (lambda: algorithms.pfedme(PROBLEM, SOLVER, lam=0), ValueError, "lam", "0", "15 is the paper's"),
    "past the inner solution": (
        lambda: algorithms.pfedme(PROBLEM, SOLVER, lam=20.0, personal_learning_rate=0.01),
        ValueError,
        "lam",
        "20",
        "learning_rate < 0.05",
    ),
    "inner steps that diverge": (
        lambda: algorithms.pfedme(PROBLEM, SOLVER, lam=5.0, personal_learning_rate=0.2, lipschitz=5.0),
        ValueError,
        "personal_learning_rate",
        "0.2",
        "take 0.1 or less",
    ),
    "pushed away": (
        lambda: algorithms.ditto(PROBLEM, SOLVER, lam=-0.1),
        ValueError,
        "lam",
        "-0.1",
        "0 is local training",
    ),
    "pushed apart": (
        lambda: algorithms.meanreg(PROBLEM, SOLVER, lam=-1),
        ValueError,
        "lam",
        "-1",
        "0 is local training",
    ),
    "pushed from the mean": (
        lambda: algorithms.l2gd(PROBLEM, SOLVER, lam=-2.5),
        ValueError,
        "lam",
        "-2.5",
        "0 is local training",
    ),
    "past the mean": (
        lambda: algorithms.l2gd(PROBLEM, SOLVER, lam=3.0, p=0.2),
        ValueError,
        "lam",
        "3",
        "a larger p",
    ),
    "a coin that always falls alike": (
        lambda: algorithms.l2gd(PROBLEM, SOLVER, p=1),
        ValueError,
        "p",
        "1",
        "once in five rounds",
    ),
    "momentum towards the mean": (
        lambda: algorithms.l2gd(PROBLEM, local.sgd(0.1, batch_size=4, momentum=0.9)),
        ValueError,
        "solver",
        "'momentum'",
        "without momentum",
    ),
    "no body": (
        lambda: algorithms.lgfedavg(PROBLEM, SOLVER),
        ValueError,
        "selector",
        "none",
        "head/kernel",
    ),
    "everything represented": (
        lambda: algorithms.lgfedavg(NETWORK, SOLVER, personal=selectors.matching("")),
        ValueError,
        "selector",
        "all",
        "dense_0/kernel",
    ),
    "a leaf of two owners": (
        lambda: algorithms.partial(
            NETWORK, SOLVER, personal=selectors.head(NETWORK), shared=selectors.matching("bias")
        ),
        ValueError,
        "personal and shared",
        "head/bias of personal and shared",
        "once",
    ),
    "leaves of nobody": (
        lambda: algorithms.partial(
            NETWORK, SOLVER, personal=selectors.head(NETWORK), shared=selectors.matching("dense_0/bias")
        ),
        ValueError,
        "personal and shared",
        "neither for dense_0/kernel",
        "add them",
    ),
    "own work of a number": (
        lambda: algorithms.partial(NETWORK, SOLVER, personal=selectors.head(NETWORK), own=3),
        TypeError,
        "own",
        "3",
        "fh.local.sgd",
    ),
    "a start that is none": (
        lambda: algorithms.lgfedavg(NETWORK, SOLVER, start={}),
        TypeError,
        "start",
        "{}",
        "fedavg.consensus",
    ),
    "a start of another model": (
        lambda: algorithms.lgfedavg(NETWORK, SOLVER, start=STATE.server),
        TypeError,
        "start",
        "Server",
        "fedavg.consensus",
    ),
    "unknown weights": (
        lambda: algorithms.lgfedavg(NETWORK, SOLVER, weights="unifrom"),
        ValueError,
        "weights",
        "'unifrom'",
        "mean 'uniform'",
    ),
    "no head epochs": (
        lambda: algorithms.fedrep(NETWORK, SOLVER, head_epochs=0),
        ValueError,
        "head_epochs",
        "0",
        "10 for the head",
    ),
    "half a body epoch": (
        lambda: algorithms.fedrep(NETWORK, SOLVER, body_epochs=0.5),
        TypeError,
        "body_epochs",
        "0.5",
        "1 for the body",
    ),
    "negative final epochs": (
        lambda: algorithms.fedrep(NETWORK, SOLVER, final_epochs=-1),
        ValueError,
        "final_epochs",
        "-1",
        "0 uses",
    ),
    "no normalisation": (
        lambda: algorithms.fedbn(NETWORK, SOLVER),
        ValueError,
        "problem",
        "norm=() of 'mlp'",
        "use a model that has some",
    ),
    "negative task": (
        lambda: algorithms.fedmtl(NETWORK, SOLVER, tasks=[0, -1]),
        ValueError,
        "tasks",
        "[0, -1]",
        "one for each client",
    ),
    "tasks of floats": (
        lambda: algorithms.fedmtl(NETWORK, SOLVER, tasks=[0.0, 1.0]),
        ValueError,
        "tasks",
        "[0.0, 1.0]",
        "one for each client",
    ),
    "tuning nothing": (
        lambda: algorithms.finetune(NETWORK, SOLVER, leaves=selectors.matching("tail")),
        ValueError,
        "selector",
        "none",
        "head/kernel",
    ),
    "tuning an unknown method": (
        lambda: algorithms.finetune(NETWORK, SOLVER, of="fedprx"),
        ValueError,
        "of",
        "'fedprx'",
        "mean 'fedprox'",
    ),
    "negative epochs of tuning": (
        lambda: algorithms.finetune(NETWORK, SOLVER, epochs=-1),
        ValueError,
        "epochs",
        "-1",
        "tunes nothing",
    ),
    "no patience": (
        lambda: algorithms.finetune(NETWORK, SOLVER, patience=0),
        ValueError,
        "patience",
        "0",
        "1 stops",
    ),
    "all rows held out": (
        lambda: algorithms.finetune(NETWORK, SOLVER, fraction=1.0),
        ValueError,
        "fraction",
        "1.0",
        "0.2 is usual",
    ),
    "a share above one": (
        lambda: algorithms.apfl(PROBLEM, SOLVER, alpha=1.5),
        ValueError,
        "alpha",
        "1.5",
        "local training",
    ),
    "a negative share": (
        lambda: algorithms.apfl(PROBLEM, SOLVER, alpha=-0.5),
        ValueError,
        "alpha",
        "-0.5",
        "FedAvg",
    ),
    "an adaptive share without a rate": (
        lambda: algorithms.apfl(PROBLEM, local.from_optax(optax.adam(0.1), batch_size=4), adaptive=True),
        ValueError,
        "solver",
        "without one",
        "its learning_rate",
    ),
    "a negative inner rate": (
        lambda: algorithms.perfedavg(PROBLEM, SOLVER, alpha=-0.1),
        ValueError,
        "alpha",
        "-0.1",
        "FedAvg",
    ),
    "a quotient over zero": (
        lambda: algorithms.perfedavg(PROBLEM, SOLVER, variant="hf", delta=0.0),
        ValueError,
        "delta",
        "0.0",
        "0.001",
    ),
    "unknown derivative": (
        lambda: algorithms.perfedavg(PROBLEM, SOLVER, variant="exat"),
        ValueError,
        "variant",
        "'exat'",
        "mean 'exact'",
    ),
    "negative adaptation": (
        lambda: algorithms.perfedavg(PROBLEM, SOLVER, adaptation=-1),
        ValueError,
        "adaptation",
        "-1",
        "1 is the paper's",
    ),
    "unknown method": (
        lambda: make("fedagv", PROBLEM, SOLVER),
        ValueError,
        "algorithm",
        "'fedagv'",
        "mean 'fedavg'",
    ),
    "unlike any method": (lambda: make("zzz", PROBLEM, SOLVER), ValueError, "algorithm", "'zzz'", "scaffold"),
}

ENGINE = {
    "more cohort than clients": (
        lambda: simulate(sampler=sampling.uniform(7)),
        ValueError,
        "cohort size",
        "7 of 5",
        "draw fewer",
    ),
    "a state that is none": (
        lambda: fh.simulate(FEDAVG, FEDERATION, state=3, rounds=2),
        TypeError,
        "state",
        "int",
        "initial_state",
    ),
    "an id nobody has": (lambda: simulate(sampler=sampling.fixed([0, 5])), ValueError, "ids", "5", "from 0"),
    "a scripted id nobody has": (
        lambda: simulate(sampler=sampling.scripted([[0, 1], [2, 9]])),
        ValueError,
        "ids",
        "9",
        "from 0",
    ),
    "an id below zero": (lambda: sampling.fixed([-1, 2]), ValueError, "ids", "[-1, 2]", "from 0"),
    "an id twice": (lambda: sampling.fixed([1, 1]), ValueError, "ids", "[1, 1]", "once"),
    "no ids": (lambda: sampling.fixed([]), ValueError, "ids", "(0,)", "from 0"),
    "ids of floats": (lambda: sampling.fixed([0.5]), ValueError, "ids", "float64", "from 0"),
    "one script for all rounds": (lambda: sampling.scripted([0, 1]), ValueError, "ids", "(2,)", "from 0"),
    "a client twice a round": (lambda: sampling.scripted([[0, 0]]), ValueError, "ids", "[[0, 0]]", "once"),
    "a cohort of none": (lambda: sampling.uniform(0), ValueError, "size", "0", "at least one"),
    "a cohort of 2.0": (lambda: sampling.uniform(2.0), TypeError, "size", "2.0", "at least one"),
    "no rounds": (lambda: simulate(rounds=0), ValueError, "rounds", "0", "at least"),
    "rounds as a float": (lambda: simulate(rounds=2.0), TypeError, "rounds", "2.0", "at least"),
    "every none": (lambda: simulate(every=0), ValueError, "every", "0", "None"),
    "key and state": (lambda: simulate(state=STATE), ValueError, "key or state", "both", "jax.random.key"),
    "neither key nor state": (
        lambda: simulate(key=None),
        ValueError,
        "key or state",
        "neither",
        "jax.random.key",
    ),
    "a seed for a key": (lambda: simulate(key=0), TypeError, "key", "int", "jax.random.key"),
    "an old key": (lambda: simulate(key=LEGACY), TypeError, "key", "uint32", "jax.random.key"),
    "unknown reaction": (
        lambda: simulate(on_nonfinite="dorp"),
        ValueError,
        "on_nonfinite",
        "'dorp'",
        "mean 'drop'",
    ),
    "unknown split": (lambda: simulate(split="tset"), ValueError, "split", "'tset'", "mean 'test'"),
    "groups of none": (lambda: executors.chunked(0), ValueError, "size", "0", "looped"),
    "groups of 2.0": (lambda: executors.chunked(2.0), TypeError, "size", "2.0", "looped"),
    "negative weights": (
        lambda: weighting.given([1, -1]),
        ValueError,
        "weights",
        "[1, -1]",
        "leaves a client out",
    ),
    "no weight": (lambda: weighting.given([0, 0]), ValueError, "weights", "[0, 0]", "leaves a client out"),
    "one weight": (lambda: weighting.given(1.0), ValueError, "weights", "1.0", "leaves a client out"),
    "weights as text": (lambda: weighting.given("ab"), TypeError, "weights", "'ab'", "leaves a client out"),
    "replay of nobody": (
        lambda: fh.replay(ROUND, FEDAVG, STATE, FEDERATION, 5),
        ValueError,
        "client",
        "5",
        "from 0",
    ),
}


def _other(task="classification", features=2, classes=2):
    rng = np.random.default_rng(1)
    y = rng.normal(size=20) if task == "regression" else rng.integers(0, classes, 20)
    facts = {} if task == "regression" else {"num_classes": classes}
    pool = fh.pool(rng.normal(size=(20, features)), y, task=task, **facts)
    return fh.from_index_lists(pool, None, np.split(np.arange(20), 5), test=0.0)


WIDE, MORE, REAL = _other(features=3), _other(classes=4), _other("regression")


def simulated(federation):
    return fh.simulate(FEDAVG, federation, key=KEY, rounds=2)


# parts that do not fit together, each a likely slip
MISFITS = {
    "other features": (lambda: simulated(WIDE), ValueError, "federation", "(3,)", "federation.pool"),
    "more classes": (lambda: simulated(MORE), ValueError, "federation", "4 classes", "federation.pool"),
    "another task": (lambda: simulated(REAL), ValueError, "federation", "'regression'", "federation.pool"),
    "newcomers": (
        lambda: fh.adapt(FEDAVG, STATE.server, WIDE, key=KEY),
        ValueError,
        "federation",
        "(3,)",
        "federation.pool",
    ),
    "swapped": (lambda: algorithms.fedavg(SOLVER, PROBLEM), TypeError, "problem", "other way", "swap"),
    "pool": (lambda: algorithms.ifca(POOL, SOLVER), TypeError, "problem", "Pool", "fh.models"),
    "optax": (lambda: algorithms.fedprox(PROBLEM, optax.sgd(0.1)), TypeError, "solver", "Transf", "from_optax"),
    "optax server": (
        lambda: algorithms.fedavg(PROBLEM, SOLVER, server=optax.adam(0.1)),
        TypeError,
        "server",
        "GradientTransformation",
        "fh.local.optimizer",
    ),
    "personal name": (
        lambda: algorithms.fedper(NETWORK, SOLVER, personal="head"),
        TypeError,
        "personal",
        "'head'",
        "selectors",
    ),
    "run swapped": (
        lambda: fh.simulate(FEDERATION, FEDAVG, key=KEY, rounds=1),
        TypeError,
        "algorithm",
        "Federation",
        "fh.algorithms",
    ),
    "pool to run": (lambda: simulated(POOL), TypeError, "federation", "Pool", "fh.from_clients"),
    "sampler uncalled": (lambda: simulate(sampler=sampling.everyone), TypeError, "sampler", "everyone", "("),
    "sampler number": (lambda: simulate(sampler=3), TypeError, "sampler", "int", "fh.sampling"),
    "executor uncalled": (lambda: simulate(executor=executors.vmapped), TypeError, "executor", "vmapped", "("),
    "executor name": (lambda: simulate(executor="vmapped"), TypeError, "executor", "str", "fh.executors"),
    "measures": (lambda: simulate(measures=[1]), TypeError, "measures", "list", "fh.analysis"),
    "weighting": (lambda: simulate(weighting=weighting.uniform), TypeError, "weighting", "uniform()", "("),
    "hook": (lambda: simulate(hook=lambda total: total), TypeError, "hook", "(total)", "upload"),
    "mesh": (lambda: executors.sharded(4), TypeError, "mesh", "int", "make_mesh"),
    "block swapped": (lambda: fh.make_block(5, ROUND), TypeError, "round_fn", "int", "make_round"),
    "block of none": (lambda: fh.make_block(ROUND, 0), ValueError, "rounds", "0", "at least"),
    "state of another": (
        lambda: fh.simulate(algorithms.scaffold(PROBLEM, SOLVER), FEDERATION, state=STATE, rounds=1),
        ValueError,
        "state",
        "Scaffold",
        "key=",
    ),
    "split": (
        lambda: fh.evaluate(FEDAVG, STATE, FEDERATION, split="tst"),
        ValueError,
        "split",
        "'tst'",
        "did you mean 'test'",
    ),
    "survey ids": (
        lambda: fh.survey(fh.analysis.gradient_dissimilarity(), FEDAVG, STATE, FEDERATION, ids=[1, 9]),
        ValueError,
        "ids",
        "[1, 9]",
        "from 0",
    ),
}


@pytest.mark.parametrize("name", [*LOCAL, *ALGORITHMS, *ENGINE, *MISFITS])
def test_refused(name):
    call, kind, argument, value, remedy = {**LOCAL, **ALGORITHMS, **ENGINE, **MISFITS}[name]
    with compile_count() as count, pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert re.match(rf"{re.escape(argument)}\b.* must .*, got .*{re.escape(value)}.*: .+", message), message
    assert remedy in message, message
    assert count.programs == [], "refused before anything is compiled"


def test_tracers_are_not_refused():
    """Values that are not known yet pass, so that numbers may be swept and differentiated."""

    @jax.jit
    def run(rate, mu, momentum):
        solver = local.sgd(rate, batch_size=4, momentum=momentum)
        algorithm = algorithms.fedprox(PROBLEM, solver, mu=mu)
        return algorithm.solver.rule.learning_rate + algorithm.solver.rule.momentum

    assert float(run(0.5, -1.0, 0.25)) == 0.75


def test_weights_for_other_clients():
    with pytest.raises(
        ValueError, match=r"weights must be one number for each of the 5 clients, got shape \(4,\)"
    ):
        simulate(weighting=weighting.given([1, 2, 3, 4]))
