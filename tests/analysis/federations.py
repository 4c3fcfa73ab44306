"""Ten random federations, on which a method of the engine is followed from every basis state at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.models import quadratic
from fedjax_het.pool import Pool
from fedjax_het.problem import Model

SIZES, DIMENSION, ROUNDS = (1, 2, 3, 6), 3, 10
N, RATE, STEPS = len(SIZES), 0.3, 4


def stacked(members):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


@functools.cache
def ten():
    """(one of ten federations, all of them stacked, their functions stacked); in double precision."""
    rng = np.random.default_rng(0)
    drawn = [
        fh.models.quadratics(
            N,
            DIMENSION,
            sizes=SIZES,
            seed=seed,
            smoothness=2 * rng.uniform(0.5, 1),
            convexity=rng.uniform(0.05, 0.3),
            dissimilarity=rng.uniform(0.5, 2),
            hessian_dissimilarity=rng.uniform(0.1, 0.5),
        )
        for seed in range(10)
    ]
    return drawn[0], stacked(drawn), stacked([oracles.quadratics_of(federation) for federation in drawn])


def in_two(problem):
    """The same function, of two leaves: v is the second coordinate."""

    def init(key):
        w = problem.init(key).params["w"]
        return Model({"u": w[jnp.array([0, 2])], "v": w[1:2]}, ())

    def apply(params, *rest, **more):
        w = jnp.stack([params["u"][0], params["v"][0], params["u"][1]])
        return problem.apply({"w": w}, *rest, **more)

    return dataclasses.replace(problem, init=init, apply=apply)


def full(**options):
    return fh.local.sgd(RATE, batch_size=None, steps=STEPS, **options)


def one_by_one(**options):
    """As many steps as a client has rows, all of which are the same."""
    return fh.local.sgd(RATE, batch_size=1, epochs=1, **options)


EQUAL = {"learning_rate": RATE, "steps": STEPS}
UNEQUAL = {"learning_rate": RATE, "steps": SIZES}


# --- states -> vectors, and back ------------------------------------------------------------------------------


def with_params(state, params, **more):
    return dataclasses.replace(state, server=dataclasses.replace(state.server, params=params, **more))


class Point:
    """w."""

    def put(self, state, z):
        return with_params(state, {"w": z})

    def take(self, state):
        return state.server.params["w"]


class Momentum(Point):
    """(w, m); the engine's optimiser is fed minus the update, and has minus m."""

    def put(self, state, z):
        opt = jax.tree.unflatten(jax.tree.structure(state.server.opt), [-z[DIMENSION:]])
        return with_params(state, {"w": z[:DIMENSION]}, opt=opt)

    def take(self, state):
        (velocity,) = jax.tree.leaves(state.server.opt)
        return jnp.concatenate([state.server.params["w"], -velocity])


@dataclasses.dataclass(frozen=True)
class Memory:
    """(w, controls), the server's their weighted mean."""

    name: str

    def put(self, state, z):
        held = oracles.split(z, N)
        shared = jnp.asarray(SIZES) / sum(SIZES) @ held.control
        clients = dataclasses.replace(state.clients, **{self.name: {"w": held.control}})
        return dataclasses.replace(
            with_params(state, {"w": held.point}, **{self.name: {"w": shared}}), clients=clients
        )

    def take(self, state):
        return oracles.joint(state.server.params["w"], getattr(state.clients, self.name)["w"])


class Ditto:
    """(w, v_k)."""

    def put(self, state, z):
        held = oracles.split(z, N)
        clients = dataclasses.replace(state.clients, personal=Model({"w": held.control}, ()))
        return dataclasses.replace(with_params(state, {"w": held.point}), clients=clients)

    def take(self, state):
        return oracles.joint(state.server.params["w"], state.clients.personal.params["w"])


class Apfl:
    """(w, v_k)."""

    def put(self, state, z):
        held = oracles.split(z, N)
        clients = dataclasses.replace(state.clients, params={"w": held.control})
        return dataclasses.replace(with_params(state, {"w": held.point}), clients=clients)

    def take(self, state):
        return oracles.joint(state.server.params["w"], state.clients.params["w"])


@dataclasses.dataclass(frozen=True)
class Models:
    """v_k, and the server's mean of them; L2GD's next rounds are together, or alone."""

    weights: tuple = SIZES
    together: bool | None = None

    def put(self, state, z):
        v = z.reshape(N, DIMENSION)
        mean = jnp.asarray(self.weights) / sum(self.weights) @ v
        more = {} if self.together is None else {"together": jnp.asarray(self.together)}
        state = with_params(state, {"w": mean}, **more)
        return dataclasses.replace(state, clients=state.clients._replace(params={"w": v}))

    def take(self, state):
        return state.clients.params["w"].ravel()


class Parts:
    """(u, v_k) of two leaves."""

    def put(self, state, z):
        clients = dataclasses.replace(state.clients, params={**state.clients.params, "v": z[2:].reshape(N, 1)})
        return dataclasses.replace(with_params(state, {**state.server.params, "u": z[:2]}), clients=clients)

    def take(self, state):
        return jnp.concatenate([state.server.params["u"], state.clients.params["v"].ravel()])


class Heads:
    """(u, v_t) of two leaves, v_t one a task."""

    def put(self, state, z):
        heads = {**state.server.heads, "v": z[2:].reshape(-1, 1)}
        trunk = dataclasses.replace(state.server.trunk, params={**state.server.trunk.params, "u": z[:2]})
        return dataclasses.replace(state, server=dataclasses.replace(state.server, trunk=trunk, heads=heads))

    def take(self, state):
        return jnp.concatenate([state.server.trunk.params["u"], state.server.heads["v"].ravel()])


class Alone:
    """v_k, and no server."""

    def put(self, state, z):
        clients = dataclasses.replace(state.clients, params={"w": z.reshape(N, DIMENSION)})
        return dataclasses.replace(state, clients=clients)

    def take(self, state):
        return state.clients.params["w"].ravel()


# --- the comparison -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """A method, its numbers, its state as a vector, and the oracle."""

    name: str
    solver: object
    numbers: dict
    state: object
    oracle: object
    two: bool = False
    again: bool = False  # whether the state is set before every round, and not once
    settles: bool = True  # whether there is a limit


def agree(case):
    """One round, ten rounds, the limit and the rate of the engine are the oracle's, for all ten federations."""
    first, federations, functions = ten()
    problem = quadratic(Pool(first.x, first.y, first.spec.pool))
    problem = in_two(problem) if case.two else problem
    algorithm = fh.algorithms.make(case.name, problem, case.solver, **case.numbers)
    round_fn = fh.make_round(
        fh.sampling.everyone(), fh.executors.vmapped(), weighting=fh.weighting.proportional()
    )
    base = fh.initial_state(algorithm, first, key=jax.random.key(0), round_fn=round_fn)
    size = case.state.take(base).shape[0]
    start = np.random.default_rng(1).normal(size=size)
    starts = jnp.asarray(np.concatenate([np.zeros((1, size)), np.eye(size), start[None]]))

    @jax.jit
    @jax.vmap
    def both(federation, functions):
        def path(z):
            def one(state, _):
                state, _ = round_fn(algorithm, state, federation)
                z = case.state.take(state)
                return (case.state.put(state, z) if case.again else state), z

            return jax.lax.scan(one, case.state.put(base, z), length=ROUNDS)[1]

        known = case.oracle(functions)
        return (
            jax.vmap(path)(starts),
            known,
            known.trajectory(starts[-1], ROUNDS)[1:],
            known.rate,
            known.fixed_point,
        )

    paths, known, path, rate, limit = jax.tree.map(np.asarray, both(federations, functions))
    offset = paths[:, 0, 0]
    matrix = np.swapaxes(paths[:, 1:-1, 0] - offset[:, None], 1, 2)
    close(matrix, known.matrix)
    close(offset, known.offset)
    close(paths[:, -1], path)
    assert np.min(np.abs(matrix)[:, 0, 0]) > 1e-3 and np.max(np.abs(path[:, -1] - start)) > 0.1, (
        "something moves"
    )
    close(np.max(np.abs(np.linalg.eigvals(matrix)), axis=1), rate)
    assert np.all(rate < 1 - 1e-9) == case.settles
    if case.settles:
        close(np.linalg.solve(np.eye(size) - matrix, offset[..., None])[..., 0], limit)


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
