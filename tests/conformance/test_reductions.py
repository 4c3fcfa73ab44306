"""Methods at a degenerate setting are federated averaging, which is gradient descent at a degenerate setting.

In double precision: closeness is to 1e-12, and equality is bit for bit where the arithmetic is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_het as fh
from conformance import cases
from conformance.lab import assert_equal
from fedjax_het import executors, tree
from fedjax_het.assembly import assemble
from fedjax_het.construct import pooled
from fedjax_het.problem import batch_mean

pytestmark = pytest.mark.usefixtures("x64")

DEGREE = 1e-12

_block = jax.jit(
    lambda round_fn, algorithm, state, federation: fh.make_block(round_fn, 1)(algorithm, state, federation)
)


def close(a: Any, b: Any) -> None:
    """The same tree to 1e-12."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=DEGREE, atol=DEGREE)


def states(
    algorithm: Any,
    *,
    federation: Any = None,
    sampler: Any = None,
    weighting: Any = None,
    rounds: int = 3,
    between: Callable[[Any], Any] = lambda state: state,
) -> Iterator[Any]:
    """The state before each round and after the last."""
    federation = cases.federation() if federation is None else federation
    sampler = fh.sampling.scripted(cases.COHORTS) if sampler is None else sampler
    round_fn = fh.make_round(sampler, executors.vmapped(), weighting=weighting)
    # not compiled as a whole: the bits of a start depend on what it is fused with
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    yield state
    for _ in range(rounds):
        state = between(_block(round_fn, algorithm, state, federation)[0])
        yield state


def last(algorithm: Any, **options: Any) -> Any:
    """The state after the last round."""
    *_, state = states(algorithm, **options)
    return state


def parts() -> tuple[Any, Any]:
    """(problem, solver) of the suite."""
    return cases.problem(cases.federation()), cases.solver()


def nothing(path: str) -> bool:
    """No leaf."""
    return False


def everything(path: str) -> bool:
    """Every leaf."""
    return True


def without_controls(state: Any) -> Any:
    """A state of control variates, all of them zero again."""
    server = dataclasses.replace(state.server, control=tree.zeros_like(state.server.control))
    return dataclasses.replace(state, server=server, clients=tree.zeros_like(state.clients))


def without_duals(state: Any) -> Any:
    """A state of FedDyn with every dual zero again, and the cohort's mean as the model that is sent."""
    zero = tree.zeros_like(state.server.dual)
    server = dataclasses.replace(state.server, params=state.server.served, dual=zero)
    clients = dataclasses.replace(state.clients, dual=tree.zeros_like(state.clients.dual))
    return dataclasses.replace(state, server=server, clients=clients)


@dataclasses.dataclass(frozen=True)
class Reduction:
    """One line of the lattice.

    Attributes:
        build: (problem, solver) -> the method at its degenerate setting.
        exact: whether every operation is the same, so that bits are.
        options: what the runs of both sides are given.
        between: applied to the method's state after every round.
        params: server -> the parameters to compare.
        average: (problem, solver) -> the kind of federated averaging that it is.
    """

    build: Callable[[Any, Any], Any]
    exact: bool = False
    options: Callable[[], dict[str, Any]] = dict
    between: Callable[[Any], Any] = lambda state: state
    params: Callable[[Any], Any] = lambda server: server.params
    average: Callable[[Any, Any], Any] = lambda problem, solver: fh.algorithms.fedavg(problem, solver)


def fedper(problem: Any, solver: Any, personal: Callable[[str], bool]) -> Any:
    """FedPer with a selector that its factory refuses, since it takes nothing or everything."""
    algorithm = fh.algorithms.fedper(problem, solver)
    return dataclasses.replace(algorithm, personal=personal)


def bare(algorithm: Any) -> Any:
    """A method of personal leaves without any, which its factory refuses."""
    return dataclasses.replace(algorithm, personal=nothing)


def normalised(problem: Any) -> Any:
    """The problem, which says that its head is a normalisation layer."""
    return dataclasses.replace(problem, facts=dataclasses.replace(problem.facts, norm=("head",)))


def weighted(problem: Any, solver: Any, weighting: Any) -> Any:
    """FedAvg with weights of its own."""
    return dataclasses.replace(fh.algorithms.fedavg(problem, solver), weighting=weighting)


def one_step(solver: Any) -> Any:
    """The solver, with one local step a round."""
    plan = dataclasses.replace(solver.plan, amount=jnp.ones((), jnp.int32), unit="steps")
    return dataclasses.replace(solver, plan=plan)


def equal_steps(solver: Any) -> Any:
    """The solver, with five local steps a round for every client."""
    plan = dataclasses.replace(solver.plan, amount=jnp.full((), 5, jnp.int32), unit="steps")
    return dataclasses.replace(solver, plan=plan)


HUGE = 1e15
"""In place of infinity: an update of order 1 changes it by 1e-15 of itself."""

REDUCTIONS = {
    "FedAvg, a cap of all": Reduction(lambda p, s: weighted(p, s, fh.weighting.capped(1.0))),
    "FedAvg, counts clipped at the largest": Reduction(
        lambda p, s: weighted(p, s, fh.weighting.clip_counts(max(cases.SIZES))), exact=True
    ),
    "FedAvg, sizes without noise": Reduction(
        lambda p, s: weighted(p, s, fh.weighting.noisy(1e3, mechanism="geometric")), exact=True
    ),
    "FedProx, mu = 0": Reduction(lambda p, s: fh.algorithms.fedprox(p, s, mu=0.0), exact=True),
    "FedNova, equal steps": Reduction(
        lambda p, s: fh.algorithms.fednova(p, equal_steps(s)),
        average=lambda p, s: fh.algorithms.fedavg(p, equal_steps(s)),
    ),
    "FedNova, equal steps and a proximal term, is FedProx": Reduction(
        lambda p, s: fh.algorithms.fednova(p, equal_steps(s), mu=0.3),
        average=lambda p, s: fh.algorithms.fedprox(p, equal_steps(s), mu=0.3),
    ),
    "SCAFFOLD II, controls held at zero": Reduction(
        lambda p, s: fh.algorithms.scaffold(p, s),
        options=lambda: {"weighting": fh.weighting.uniform()},
        between=without_controls,
    ),
    "SCAFFOLD I, controls held at zero": Reduction(
        lambda p, s: fh.algorithms.scaffold(p, s, option="I"),
        options=lambda: {"weighting": fh.weighting.uniform()},
        between=without_controls,
    ),
    "FedDyn, duals held at zero, is FedProx": Reduction(
        lambda p, s: fh.algorithms.feddyn(p, s, alpha=0.3),
        options=lambda: {"weighting": fh.weighting.uniform()},
        between=without_duals,
        average=lambda p, s: fh.algorithms.fedprox(p, s, mu=0.3),
    ),
    "q-FedAvg, q = 0, counts every client alike": Reduction(
        lambda p, s: fh.algorithms.qfedavg(p, s, q=0.0),
        average=lambda p, s: weighted(p, s, fh.weighting.uniform()),
    ),
    "q-FedAvg, q = 0, counts every row alike": Reduction(
        lambda p, s: fh.algorithms.qfedavg(p, s, q=0.0, weights="proportional")
    ),
    "q-FedSGD, q = 0, is one step of a batch": Reduction(
        lambda p, s: fh.algorithms.qfedsgd(p, s, q=0.0, weights="proportional"),
        average=lambda p, s: fh.algorithms.fedavg(p, one_step(s)),
    ),
    "TERM, t = 0": Reduction(lambda p, s: fh.algorithms.term(p, s, t=0.0), exact=True),
    "AFL, the mixture held at the shares of rows, is one step of a batch": Reduction(
        lambda p, s: fh.algorithms.afl(p, s, domain_learning_rate=0.0, start=cases.SIZES),
        options=lambda: {"sampler": fh.sampling.everyone()},
        average=lambda p, s: fh.algorithms.fedavg(p, one_step(s)),
    ),
    "Agnostic FedAvg, one domain, full batches": Reduction(
        lambda p, s: fh.algorithms.agnostic(p, descent(), domains=[0] * len(cases.SIZES)),
        average=lambda p, s: fh.algorithms.fedavg(p, descent()),
    ),
    "FedPer, no personal leaf": Reduction(lambda p, s: fedper(p, s, nothing), exact=True),
    "LG-FedAvg, no personal leaf": Reduction(lambda p, s: bare(fh.algorithms.lgfedavg(p, s)), exact=True),
    "FedRep, no head": Reduction(
        lambda p, s: bare(fh.algorithms.fedrep(p, s, body_epochs=int(s.plan.amount))), exact=True
    ),
    "FedBN, no normalisation, counts every client alike": Reduction(
        lambda p, s: bare(fh.algorithms.fedbn(normalised(p), s)),
        exact=True,
        average=lambda p, s: weighted(p, s, fh.weighting.uniform()),
    ),
    "FedMTL, one task": Reduction(
        lambda p, s: fh.algorithms.fedmtl(p, s, tasks=[0] * len(cases.SIZES)),
        params=lambda server: tree.combine(
            jax.tree.map(lambda leaf: leaf[0], server.heads), server.trunk.params
        ),
    ),
    "Fine-tuning, before it": Reduction(lambda p, s: fh.algorithms.finetune(p, s), exact=True),
    "APFL, whatever its mixtures do": Reduction(
        lambda p, s: fh.algorithms.apfl(p, s, alpha=0.7, adaptive=True),
        exact=True,
        options=lambda: {"weighting": fh.weighting.uniform()},
    ),
    "Per-FedAvg, no inner step, one batch for all gradients": Reduction(
        lambda p, s: fh.algorithms.perfedavg(p, s, alpha=0.0, separate=False),
        exact=True,
        options=lambda: {"weighting": fh.weighting.uniform()},
    ),
    "pFedMe, one inner step, is a rate of eta lambda alpha_p": Reduction(
        lambda p, s: fh.algorithms.pfedme(p, s, lam=5.0, personal_learning_rate=0.3, inner_steps=1),
        average=lambda p, s: fh.algorithms.fedavg(p, cases.solver(learning_rate=0.1 * 5.0 * 0.3)),
    ),
    "Ditto, whatever its personal models do, counts every client alike": Reduction(
        lambda p, s: fh.algorithms.ditto(p, s, lam=0.7),
        exact=True,
        average=lambda p, s: weighted(p, s, fh.weighting.uniform()),
    ),
    "Ditto, whatever its personal models do, with an optimiser at the server": Reduction(
        lambda p, s: fh.algorithms.ditto(
            p, s, server=fh.algorithms.fedadam(p, s).server, weights="proportional"
        ),
        exact=True,
        average=lambda p, s: fh.algorithms.fedadam(p, s),
    ),
    "IFCA, one cluster": Reduction(
        lambda p, s: fh.algorithms.ifca(p, s, clusters=1),
        params=lambda server: jax.tree.map(lambda leaf: leaf[0], server.params),
    ),
    "IFCA, one cluster, by gradients, is a step of a batch that counts every client alike": Reduction(
        lambda p, s: fh.algorithms.ifca(p, s, clusters=1, average="gradients"),
        params=lambda server: jax.tree.map(lambda leaf: leaf[0], server.params),
        average=lambda p, s: weighted(p, one_step(s), fh.weighting.uniform()),
    ),
    "CFL, never settled": Reduction(
        lambda p, s: fh.algorithms.cfl(p, s, eps1=1e-9),
        options=lambda: {"sampler": fh.sampling.everyone()},
        params=lambda server: jax.tree.map(lambda leaf: leaf[0], server.params),
    ),
    "Threshold CFL, one cluster": Reduction(
        lambda p, s: fh.algorithms.cosine_cfl(p, s, clusters=1, warm_up=0, every=2),
        options=lambda: {"sampler": fh.sampling.everyone()},
        params=lambda server: jax.tree.map(lambda leaf: leaf[0], server.params),
    ),
    "FedEM, one component": Reduction(
        lambda p, s: fh.algorithms.fedem(p, s, components=1),
        exact=True,
        params=lambda server: jax.tree.map(lambda leaf: leaf[0], server.params),
    ),
    "FedAvg, rate 1 and momentum 0 at the server": Reduction(
        lambda p, s: fh.algorithms.fedavg(
            p, s, server=fh.local.optimizer(optax.sgd, learning_rate=1.0, momentum=0.0)
        )
    ),
    "FedAvgM, momentum 0": Reduction(lambda p, s: fh.algorithms.fedavgm(p, s, momentum=0.0)),
    "FedAvgM, momentum 0, looking ahead": Reduction(
        lambda p, s: fh.algorithms.fedavgm(p, s, momentum=0.0, nesterov=True)
    ),
    "FedAdam, no memory, tau and the rate without bound": Reduction(
        lambda p, s: fh.algorithms.fedadam(p, s, b1=0.0, b2=0.0, tau=HUGE, server_learning_rate=HUGE)
    ),
    "FedAdam of the paper's runs, no memory, tau and the rate without bound": Reduction(
        lambda p, s: fh.algorithms.fedadam(
            p, s, b1=0.0, b2=0.0, tau=HUGE, server_learning_rate=HUGE, mode="keras"
        )
    ),
    "FedYogi, no memory, tau without bound, twice the rate since v stays at its square": Reduction(
        lambda p, s: fh.algorithms.fedyogi(p, s, b1=0.0, b2=0.0, tau=HUGE, server_learning_rate=2 * HUGE)
    ),
    "FedAdagrad, no momentum, tau without bound, twice the rate since v stays at its square": Reduction(
        lambda p, s: fh.algorithms.fedadagrad(p, s, b1=0.0, tau=HUGE, server_learning_rate=2 * HUGE)
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_it_is_federated_averaging(name: str) -> None:
    reduction, (problem, solver) = REDUCTIONS[name], parts()
    options = reduction.options()
    reduced = last(reduction.build(problem, solver), between=reduction.between, **options)
    average = last(reduction.average(problem, solver), **options)
    if reduction.exact:
        params = reduction.params(reduced.server)
        assert_equal(tree.combine(params, params), average.server.params)
    else:
        close(reduction.params(reduced.server), average.server.params)


def test_controls_that_move_are_not_federated_averaging() -> None:
    """The row above is not empty: from the second round on, controls matter."""
    problem, solver = parts()
    first, second, third, _ = states(fh.algorithms.scaffold(problem, solver))
    average = list(states(fh.algorithms.fedavg(problem, solver), weighting=fh.weighting.uniform()))
    close(first.server.params, average[0].server.params)
    close(second.server.params, average[1].server.params)
    gap = tree.subtract(third.server.params, average[2].server.params)
    assert float(tree.sum_of_squares(gap)) > 1e-6


def test_local_training_is_everything_personal() -> None:
    problem, solver = parts()
    alone, personal = last(fh.algorithms.local_only(problem, solver)), last(fedper(problem, solver, everything))
    assert_equal(alone.clients, personal.clients)


def test_local_training_does_not_depend_on_who_else_takes_part() -> None:
    problem, solver = parts()
    algorithm = fh.algorithms.local_only(problem, solver)
    together = last(algorithm, sampler=fh.sampling.everyone(), rounds=2)
    for client in (2, 4):
        alone = last(algorithm, sampler=fh.sampling.fixed([client]), rounds=2)
        mine = jax.tree.map(lambda leaf, client=client: leaf[client], (alone.clients, together.clients))
        close(*mine)


# --- gradient descent -----------------------------------------------------------------------------------------


RATE = 0.3


def descent() -> Any:
    """One epoch of one full batch: a gradient step."""
    return fh.local.sgd(RATE, batch_size=None, epochs=1)


def step(problem: Any, params: Any, x: Any, y: Any) -> Any:
    """One step of gradient descent on the mean loss of these rows."""

    def loss(params: Any) -> Any:
        out, _ = problem.apply(params, (), x)
        return batch_mean(problem.losses(out, y), jnp.ones(x.shape[0]))

    return tree.subtract(params, tree.scale(RATE, jax.grad(loss)(params)))


def everyone_steps(federation: Any, **options: Any) -> list[Any]:
    """The models of federated averaging with gradient steps and all clients."""
    algorithm = fh.algorithms.fedavg(cases.problem(federation), descent())
    options = {"sampler": fh.sampling.everyone(), "rounds": 2, **options}
    return [state.server.params for state in states(algorithm, federation=federation, **options)]


def test_full_batches_of_all_clients_are_gradient_descent() -> None:
    federation = cases.federation()
    rows = federation.train.index
    x, y = federation.x[rows], federation.y[rows]
    start, *rest = everyone_steps(federation)
    problem = cases.problem(federation)
    for params in rest:
        start = step(problem, start, x, y)
        close(params, start)


def test_pooled_rows_are_one_client_of_gradient_descent() -> None:
    federation = cases.federation()
    close(everyone_steps(federation), everyone_steps(pooled(federation)))


def held(federation: Any) -> list[np.ndarray]:
    """Training rows of each client."""
    index, offset, size = (np.asarray(part) for part in jax.tree.leaves(federation.train))
    return [index[begin : begin + count] for begin, count in zip(offset[0], size[0])]


def test_every_client_twice_is_the_same_step() -> None:
    federation = cases.federation()
    twice = assemble(cases.pool(), held(federation) * 2)
    close(everyone_steps(federation), everyone_steps(twice))


def test_every_row_twice_is_the_same_step() -> None:
    federation = cases.federation()
    twice = assemble(cases.pool(), [np.tile(rows, 2) for rows in held(federation)])
    close(everyone_steps(federation), everyone_steps(twice))


def test_renumbering_clients_renumbers_their_states() -> None:
    order = np.random.default_rng(0).permutation(len(cases.SIZES))
    federation = cases.federation()
    rows = held(federation)
    renumbered = assemble(cases.pool(), [rows[k] for k in order])
    algorithm = fh.algorithms.scaffold(cases.problem(federation), descent())
    options = {"sampler": fh.sampling.everyone(), "rounds": 2}
    before = last(algorithm, federation=federation, **options)
    after = last(algorithm, federation=renumbered, **options)
    close(after.server, before.server)
    close(after.clients, tree.take(before.clients, jnp.asarray(order, jnp.int32)))


def parts_of_the_whole(weights: str) -> np.ndarray:
    """What each client counts: 1/N, the empty one included, or n_k/n."""
    counts = np.array(cases.SIZES, float) if weights == "proportional" else np.ones(len(cases.SIZES))
    return counts / counts.sum()


@pytest.mark.parametrize(
    ("option", "weights", "start"),
    [("I", "uniform", "zero"), ("II", "uniform", "gradients"), ("II", "proportional", "zero")],
)
def test_the_global_control_is_the_mean_of_all_clients_controls(option: str, weights: str, start: str) -> None:
    """After partial rounds too, the empty client counting as one of N."""
    problem, solver = parts()
    algorithm = fh.algorithms.scaffold(problem, solver, option=option, weights=weights, start=start)
    share = parts_of_the_whole(weights)
    for state in states(algorithm):
        mean = jax.tree.map(lambda leaf: np.tensordot(share, np.asarray(leaf), 1), state.clients.control)
        close(state.server.control, mean)
    assert float(tree.sum_of_squares(state.server.control)) > 1e-6


def test_mean_regularised_models_without_a_pull_are_local_training() -> None:
    problem, solver = parts()
    pulled, alone = (
        last(m)
        for m in (fh.algorithms.meanreg(problem, solver, lam=0.0), fh.algorithms.local_only(problem, solver))
    )
    assert_equal(pulled.clients.params, alone.clients.params)


@pytest.mark.parametrize("name", ["meanreg", "l2gd"])
def test_the_servers_mean_is_that_of_all_clients_models(name: str) -> None:
    """After partial rounds too: by rows, or of those who have any."""
    problem, solver = parts()
    algorithm = fh.algorithms.make(name, problem, solver)
    share = parts_of_the_whole("proportional")
    if name == "l2gd":
        share = (share > 0) / np.count_nonzero(share)
    for state in states(algorithm, rounds=6):
        mean = jax.tree.map(lambda leaf: np.tensordot(share, np.asarray(leaf), 1), state.clients.params)
        close(state.server.params, mean)
    spread = tree.subtract(state.clients.params, jax.tree.map(lambda leaf: leaf[None], state.server.params))
    assert float(tree.sum_of_squares(spread)) > 1e-3


@pytest.mark.parametrize("weights", ["uniform", "proportional", "scaled_alpha"])
def test_the_global_dual_is_the_mean_of_all_clients_duals(weights: str) -> None:
    """After partial rounds too; with scaled alphas the mean is by rows."""
    problem, solver = parts()
    share = parts_of_the_whole("uniform" if weights == "uniform" else "proportional")
    for state in states(fh.algorithms.feddyn(problem, solver, alpha=0.3, weights=weights)):
        mean = jax.tree.map(lambda leaf: np.tensordot(share, np.asarray(leaf), 1), state.clients.dual)
        close(state.server.dual, mean)
    assert float(tree.sum_of_squares(state.server.dual)) > 1e-6


def test_the_mixture_of_clients_stays_on_the_simplex() -> None:
    """Rounds with a step so large that it ends in a corner too; the empty client never has a share."""
    problem, solver = parts()
    empty = cases.SIZES.index(0)
    for rate in (0.05, 10.0):
        algorithm = fh.algorithms.afl(problem, solver, domain_learning_rate=rate)
        path = [np.asarray(s.server.mixture) for s in states(algorithm, sampler=fh.sampling.everyone())]
        for share in path:
            assert share.min() == 0 == share[empty] and abs(share.sum() - 1) < DEGREE
        assert np.abs(path[-1] - path[0]).max() > 1e-2


def test_splits_partition_the_clients() -> None:
    """Whatever is cut: everyone is in one cluster in use, each of which has somebody, as the tree says."""
    problem, solver = parts()
    algorithm = fh.algorithms.cfl(problem, solver, clusters=5, eps1=1e3, eps2=0.0, gap=0)
    for state in states(algorithm, sampler=fh.sampling.everyone(), rounds=4):
        server = jax.tree.map(np.asarray, state.server)
        assert sorted(set(server.label.tolist())) == list(range(server.used))
        label = np.zeros(len(cases.SIZES), int)
        for i in range(server.used - 1):
            split, leaves = server.splits.origin[i], server.splits.side[i] == 1
            told = server.splits.side[i] >= 0
            assert (label[told] == split).all() and leaves.any() and (told & ~leaves).any()
            label[leaves] = i + 1
        np.testing.assert_array_equal(server.label, label)
    assert server.used == 5


@pytest.mark.parametrize("name", ["qfedavg", "qfedsgd", "term"])
def test_every_client_twice_is_the_same_step_of_those_who_weigh_losses(name: str) -> None:
    federation = cases.federation()
    twice = assemble(cases.pool(), held(federation) * 2)
    algorithm = fh.algorithms.make(name, cases.problem(federation), descent())
    options = {"sampler": fh.sampling.everyone(), "rounds": 2}
    once, again = (last(algorithm, federation=each, **options) for each in (federation, twice))
    close(once.server, again.server)


def test_shares_of_components_and_covariances_of_tasks_stay_what_they_are() -> None:
    """pi on the simplex for everybody, Sigma positive definite with trace 1, after partial rounds too."""
    problem, solver = parts()
    for state in states(fh.algorithms.fedem(problem, solver)):
        share = np.asarray(state.clients.weights)
        assert share.min() >= 0 and np.abs(share.sum(axis=1) - 1).max() < DEGREE
    assert np.abs(share - 1 / 3).max() > 1e-2
    relations = [np.asarray(s.server.relation) for s in states(fh.algorithms.mocha(problem, solver, inner=1))]
    for relation in relations:
        assert np.linalg.eigvalsh(relation).min() > 0 and abs(np.trace(relation) - 1) < DEGREE
    assert np.abs(relations[-1] - relations[0]).max() > 1e-2
