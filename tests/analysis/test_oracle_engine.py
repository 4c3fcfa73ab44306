"""The oracles are the engine's own compiled rounds, entry by entry, and where its long runs end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from reference import quadratics

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.engine.blocks import block
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

SIZES = np.array([1, 2, 3, 6])
RATE, STEPS, MANY = 0.2, 4, 600


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(got, expected, digits=1e-9):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


class Bench:
    """Four quadratics in a federation, and one method on it, its state as the oracles have it.

    `memory` is what the method calls its clients' controls, and the server their mean; None without any.
    """

    def __init__(self, name, local, cohort=None, memory=None, **numbers):
        A, a = quadratics.functions()
        self.federation = quadratic_federation(A, a, sizes=SIZES)
        problem = quadratic(Pool(self.federation.x, self.federation.y, self.federation.spec.pool))
        self.algorithm = fh.algorithms.make(name, problem, local, **numbers)
        sampler = fh.sampling.everyone() if cohort is None else fh.sampling.fixed(cohort)
        self.round_fn = fh.make_round(sampler, fh.executors.vmapped())
        self.state = fh.initial_state(
            self.algorithm, self.federation, key=jax.random.key(0), round_fn=self.round_fn
        )
        self.memory = memory
        self.functions = oracles.quadratics_of(self.federation)
        self.present = None if cohort is None else np.isin(np.arange(4), cohort)

    def put(self, held):
        """The engine's state of w, or of a Joint."""
        server, clients = self.state.server, self.state.clients
        if self.memory:
            shared = self.functions.p @ held.control
            server = dataclasses.replace(server, **{self.memory: {"w": shared}})
            clients = dataclasses.replace(clients, **{self.memory: {"w": held.control}})
            held = held.point
        return dataclasses.replace(
            self.state, server=dataclasses.replace(server, params={"w": held}), clients=clients
        )

    def take(self, state):
        """The other way."""
        point = state.server.params["w"]
        return oracles.Joint(point, getattr(state.clients, self.memory)["w"]) if self.memory else point

    @property
    def start(self):
        """Somewhere."""
        point = jnp.asarray([1.0, -2.0, 0.5])
        return (
            oracles.Joint(point, jnp.asarray(np.random.default_rng(2).normal(size=(4, 3))))
            if self.memory
            else point
        )

    @property
    def best(self):
        """The optimum, with the clients' gradients there."""
        best = self.functions.optimum
        return oracles.Joint(best, self.functions.gradients(best)) if self.memory else best

    def same(self, expected):
        """The engine's round is the map `expected(functions, present)`; returns that."""

        @jax.jit
        def both(algorithm, functions, held):
            def step(held):
                return self.take(self.round_fn(algorithm, self.put(held), self.federation)[0])

            return oracles.affine_probe(step, held)[0], expected(functions, self.present)

        got, known = both(self.algorithm, self.functions, self.start)
        close(got.matrix, known.matrix)
        close(got.offset, known.offset)
        return known

    def long_run(self, rounds=MANY):
        """Where the engine's rounds lead from the optimum."""
        run = jax.jit(block, static_argnames="rounds")
        state, _ = run(self.round_fn, self.algorithm, self.put(self.best), self.federation, rounds=rounds)
        return self.take(state)

    def stays(self):
        """They lead nowhere."""
        for got, expected in zip(self.long_run(), self.best):
            close(got, expected)

    def moves_to(self, limit):
        """They lead to `limit`, which is elsewhere."""
        assert np.linalg.norm(limit - self.best) > 1e-3
        close(self.long_run(), limit)


def full(steps=STEPS, rate=RATE):
    return fh.local.sgd(rate, batch_size=None, steps=steps)


def one_by_one(**arguments):
    """As many steps as a client has rows, all of which are the same quadratic."""
    return fh.local.sgd(RATE, batch_size=1, epochs=1, **arguments)


def test_fedavg_with_unequal_steps():
    bench = Bench("fedavg", one_by_one())
    bench.same(lambda f, here: oracles.fedavg(f, learning_rate=RATE, steps=SIZES))


def test_fedprox_and_a_cohort():
    bench = Bench("fedprox", full(), [0, 2, 3], mu=0.7)
    bench.same(lambda f, here: oracles.fedprox(f, mu=0.7, learning_rate=RATE, steps=STEPS, present=here))


@pytest.mark.parametrize("prox", ["outside", "inside"])
def test_fednova_with_momentum_and_a_proximal_term(prox):
    bench = Bench("fednova", one_by_one(momentum=0.6), mu=0.4, prox=prox)
    known = bench.same(
        lambda f, here: oracles.fednova(f, learning_rate=RATE, steps=SIZES, mu=0.4, momentum=0.6, prox=prox)
    )
    if prox == "outside":
        bench.moves_to(known.fixed_point)


def test_fednova_with_a_schedule_and_its_steps_counted():
    rates = [0.2, 0.1, 0.05, 0.025, 0.0125, 0.00625]
    local = fh.local.sgd(fh.local.geometric(0.2, 0.5, unit="step"), batch_size=1, epochs=1)
    bench = Bench("fednova", local, [1, 3], mu=0.5, effective_steps="steps")
    bench.same(
        lambda f, here: oracles.fednova(
            f, learning_rate=rates, steps=SIZES, mu=0.5, effective_steps="steps", present=here
        )
    )


@pytest.mark.parametrize("option", ["I", "II"])
def test_scaffold(option):
    cohort = None if option == "I" else [0, 2, 3]
    bench = Bench("scaffold", full(), cohort, memory="control", option=option, weights="proportional")
    bench.same(
        lambda f, here: oracles.scaffold(f, learning_rate=RATE, steps=STEPS, option=option, present=here)
    )
    if cohort:
        bench.stays()


def test_scaffold_with_unequal_steps():
    bench = Bench("scaffold", one_by_one(), memory="control", weights="proportional", server_learning_rate=0.8)
    bench.same(lambda f, here: oracles.scaffold(f, learning_rate=RATE, steps=SIZES, server_learning_rate=0.8))


def test_feddyn_and_a_cohort():
    bench = Bench("feddyn", full(), [1, 2, 3], memory="dual", alpha=0.9, weights="proportional")
    bench.same(lambda f, here: oracles.feddyn(f, alpha=0.9, learning_rate=RATE, steps=STEPS, present=here))
    bench.stays()


def test_server_momentum():
    """The state is (w, m); the engine's optimiser is fed minus the update, and has minus m."""
    bench = Bench("fedavgm", full(), momentum=0.7, server_learning_rate=0.5)

    @jax.jit
    def both(algorithm, functions, server):
        def step(server):
            state = dataclasses.replace(bench.state, server=server)
            return bench.round_fn(algorithm, state, bench.federation)[0].server

        round_map = oracles.fedavg(functions, learning_rate=RATE, steps=STEPS)
        known = oracles.server_momentum(round_map, beta=0.7, server_learning_rate=0.5)
        return oracles.affine_probe(step, server)[0], known, round_map

    got, known, round_map = both(bench.algorithm, bench.functions, bench.state.server)
    turn = np.diag([1.0] * 3 + [-1.0] * 3)
    close(got.matrix, turn @ known.matrix @ turn)
    close(got.offset, turn @ known.offset)
    close(known.fixed_point, np.concatenate([round_map.fixed_point, np.zeros(3)]))


def test_an_adaptive_server_does_not_move_the_limit():
    bench = Bench("fedadam", full(), server_learning_rate=0.1, tau=0.1)
    bench.moves_to(oracles.fedavg(bench.functions, learning_rate=RATE, steps=STEPS).fixed_point)


def test_the_probe_of_a_server_and_its_clients():
    """All of SCAFFOLD's state, the server's variate too: more numbers, and the same path."""
    bench = Bench("scaffold", full(), memory="control", weights="proportional")
    state = bench.put(bench.start)

    def step(held):
        server, clients = held
        moved = dataclasses.replace(bench.state, server=server, clients=clients)
        after, _ = bench.round_fn(bench.algorithm, moved, bench.federation)
        return after.server, after.clients

    tangent = jax.jit(lambda held: oracles.affine_probe(step, held)[0])((state.server, state.clients))
    flat, unravel = ravel_pytree((state.server, state.clients))
    known = oracles.scaffold(bench.functions, learning_rate=RATE, steps=STEPS)
    path = known.trajectory(oracles.joint(*bench.start), 20)
    server, clients = unravel(tangent.trajectory(flat, 20)[-1])
    close(oracles.joint(server.params["w"], clients.control["w"]), path[-1])
    # the server's variate follows the clients' and never forgets a difference: the eigenvalue 1
    values = np.sort(np.abs(np.linalg.eigvals(tangent.matrix)))
    close(values[-3:], 1)
    close(values[-4], known.rate)
