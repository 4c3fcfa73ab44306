"""A round: gather, body, scatter. Runs any algorithm and names none.

Gather and scatter touch the states of all N clients; the body sees a cohort only, so a store elsewhere (host
memory, other devices) can take their place between `draw`, `body` and `advance`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_het import keys, tree
from fedjax_het.algorithm import Client, Cohort, Report, Upload
from fedjax_het.check import known
from fedjax_het.engine.beginning import begun
from fedjax_het.engine.fit import check_callable, check_record
from fedjax_het.engine.slots import Slots, make_client
from fedjax_het.engine.state import Seen, State
from fedjax_het.federation import Federation
from fedjax_het.typing import Array, PyTree, static

__all__ = [
    "NONFINITE",
    "Outcome",
    "Round",
    "advance",
    "body",
    "draw",
    "make_round",
    "scatter",
]

NONFINITE = ("raise", "drop")
"""raise: `simulate` stops and names the client; drop: clients reporting NaN or infinity count as absent."""


class Outcome(NamedTuple):
    """What a round's body produced.

    Attributes:
        server: the next server state.
        states: the cohort's next client states, leading axis C; as they were where absent.
        cohort: the cohort, with the clients left out for NaN or infinity marked absent.
        loss: the loss each client reported, float [C].
        measures: the measures' next carries.
        log: what the host sees of the round.
    """

    server: PyTree
    states: PyTree
    cohort: Cohort
    loss: Array
    measures: dict[str, PyTree]
    log: dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)  # so that `jax.jit(round_fn)` can hash it whatever its leaves
class Round:
    """One round as a pytree callable: (algorithm, state, federation) -> (state, log).

    Attributes:
        sampler: who takes part.
        measures: questions put to the cohort, by name.
        weighting: overrides the algorithm's own, or None.
        hook: (key, `Upload`) -> `Upload`, between client and server, or None: clipping, noise, compression.
        executor: how clients are mapped; static.
        on_nonfinite: one of `NONFINITE`; static.
        differentiable: whether passes over rows are static loops that reverse mode can follow; static.
    """

    sampler: Any
    measures: dict[str, Any]
    weighting: Any
    hook: Any
    executor: Any = static()
    on_nonfinite: str = static()
    differentiable: bool = static()

    def __call__(self, algorithm: Any, state: State, federation: Federation) -> tuple[State, dict[str, Any]]:
        """Run one round; pure.

        Returns:
            (state, log). The log holds "id" int32 [C], "present" bool [C], "lost" bool [C] (present until they
            reported NaN or infinity), "info" {name: [C]}, "measures" {name: {value: array}}, and "sound",
            whether all that came back is finite and the new states hold no new NaN or infinity.
        """
        cohort, sampler = draw(self, algorithm, state, federation)
        states = tree.take(state.clients, cohort.id)
        done = body(self, algorithm, federation, state, cohort, states)
        return advance(state, done, sampler, scatter(state.clients, done)), done.log


def scatter(clients: PyTree, done: Outcome) -> PyTree:
    """All clients' states [N, ...] with the cohort's new ones put in."""
    return tree.put(clients, _target(done), done.states)


def advance(state: State, done: Outcome, sampler: PyTree, clients: PyTree) -> State:
    """The state after the round, with whatever holds the clients' states now."""
    seen = Seen(
        state.seen.loss.at[_target(done)].set(done.loss, mode="drop"),
        state.seen.round.at[_target(done)].set(state.round, mode="drop"),
    )
    return State(state.round + 1, state.key, done.server, clients, sampler, seen, done.measures)


def _target(done: Outcome) -> Array:
    """Rows to write to: absent slots aim at row N, which does not exist, and are dropped."""
    return jnp.where(done.cohort.present, done.cohort.id, done.cohort.population)


def make_round(
    sampler: Any,
    executor: Any,
    measures: dict[str, Any] | None = None,
    *,
    weighting: Any = None,
    hook: Any = None,
    on_nonfinite: str = "raise",
    differentiable: bool = False,
) -> Round:
    """Put a round together; see `Round` for the arguments.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: unknown `on_nonfinite`.
    """
    known("on_nonfinite", on_nonfinite, NONFINITE)
    check_record("sampler", sampler, ("init", "draw"), "fh.sampling.uniform(10)")
    check_record("executor", executor, ("__call__",), "fh.executors.auto()")
    if not (measures is None or isinstance(measures, dict)):
        raise TypeError(
            f"measures must be a dictionary of measures by name, got {type(measures).__name__}: pass "
            "{'dissimilarity': fh.analysis.gradient_dissimilarity()}"
        )
    for name, measure in (measures or {}).items():
        methods = ("init", "client", "finish")
        check_record(f"measures[{name!r}]", measure, methods, "fh.analysis.gradient_dissimilarity()")
    if weighting is not None:
        check_callable("weighting", weighting, ("sizes", "cohort"), "fh.weighting.uniform()")
    if hook is not None:
        check_callable("hook", hook, ("key", "upload"), "a function that returns the upload")
    return Round(
        sampler, measures or {}, _callable(weighting), _callable(hook), executor, on_nonfinite, differentiable
    )


def _callable(function: Any) -> Any:
    """A bare function as a pytree callable; one that is a pytree already keeps its numbers as leaves."""
    if function is None or not jax.tree_util.all_leaves([function]):
        return function
    return jax.tree_util.Partial(function)


def draw(round_fn: Round, algorithm: Any, state: State, federation: Federation) -> tuple[Cohort, PyTree]:
    """The round's cohort, with weights, and the sampler's next state."""
    phase = federation.phase(state.round)
    sizes = federation.train.size.at[jnp.minimum(phase, federation.train.size.shape[0] - 1)].get()
    key = keys.stream(keys.round_(state.key, state.round), "cohort")
    drawn, sampler = round_fn.sampler.draw(state.sampler, key, state.round, sizes, state.seen.loss)
    real = jnp.result_type(float)
    population = federation.num_clients
    rows = sizes.at[drawn.id].get(mode="clip").astype(real)
    cohort = Cohort(
        id=drawn.id,
        present=(drawn.id < population) & (rows > 0) & (drawn.work > 0),
        weight=jnp.zeros(drawn.id.shape, real),
        multiplicity=drawn.multiplicity.astype(real),
        work=drawn.work.astype(real),
        round=state.round,
        population=population,
        rows=jnp.sum(sizes.astype(real)),
    )
    weighting = algorithm.weighting if round_fn.weighting is None else round_fn.weighting
    weight = jnp.where(cohort.present, weighting(rows, cohort).astype(real), 0)
    return dataclasses.replace(cohort, weight=weight), sampler


def body(
    round_fn: Round,
    algorithm: Any,
    federation: Federation,
    state: State,
    cohort: Cohort,
    states: PyTree,
) -> Outcome:
    """A round of the given cohort.

    Args:
        round_fn: the round.
        algorithm: the algorithm.
        federation: for the pool and the cohort's rows.
        state: for the key, the round, the server and the measures' carries; its `clients` are not read.
        cohort: from `draw`.
        states: the cohort's client states, leading axis C.
    """
    phase = federation.phase(state.round)
    offset, size, arguments = federation.locate("train", phase, cohort.id)
    slots = Slots(
        cohort.id,
        cohort.present,
        cohort.weight,
        cohort.work,
        states,
        (offset, jnp.where(cohort.present, size, 0), arguments),  # an absent slot has no rows to work on
        federation.locate("valid", phase, cohort.id),
    )
    key = keys.round_(state.key, state.round)

    def dense(slot: Slots) -> Client:
        return make_client(federation, slot, key, state.round, differentiable=round_fn.differentiable)

    told = begun(round_fn.measures, state.measures, algorithm, state.server, slots, dense)
    shared = (round_fn, algorithm, federation, state.server, told, state.round, key)
    # the steps each will take, up to a factor; none in an absent slot
    cost = slots.train[1].astype(cohort.work.dtype) * cohort.work
    (total, asked), (next_states, each, answers, info, finite) = round_fn.executor(
        _one_client, shared, slots, cost
    )
    cohort = dataclasses.replace(cohort, present=cohort.present & finite)
    lost = slots.present & ~finite
    server = jax.lax.cond(
        jnp.any(cohort.present),
        lambda: _same_types(
            state.server,
            algorithm.server_update(state.server, total, each, cohort, keys.stream(key, "server")),
        ),
        lambda: state.server,
    )
    log: dict[str, Any] = {"id": cohort.id, "present": cohort.present, "lost": lost, "info": info}
    log["measures"] = {}
    carries = {}
    for name, measure in round_fn.measures.items():
        values, carries[name] = measure.finish(
            told[name], algorithm, state.server, asked[name], answers[name], cohort
        )
        log["measures"][name] = values
    log["sound"] = tree.all_finite(total) & tree.stays_sound(server, state.server) & ~jnp.any(lost)
    real = jnp.result_type(float)
    # no step taken, no loss seen: the last report stands
    last = state.seen.loss.at[cohort.id].get(mode="clip")
    worked = info["steps"] > 0 if "steps" in info else jnp.ones_like(cohort.present)
    loss = jnp.where(worked, info["loss"].astype(real), last) if "loss" in info else last
    return Outcome(server, next_states, cohort, loss, carries, log)


def _one_client(shared: PyTree, slot: Slots) -> tuple[PyTree, PyTree]:
    round_fn, algorithm, federation, server, carries, round_, key = shared
    client = make_client(federation, slot, key, round_, differentiable=round_fn.differentiable)
    report: Report = algorithm.client_update(server, client)
    state = _same_types(slot.state, report.state)
    asked, answers = {}, {}
    for name, measure in round_fn.measures.items():
        asked[name], answers[name] = measure.client(carries[name], algorithm, server, client, report)
    upload = Upload(report.total, report.each)
    if round_fn.hook is not None:
        upload = round_fn.hook(keys.client(keys.stream(key, "upload"), slot.id), upload)
        if not isinstance(upload, Upload):
            raise TypeError(
                f"hook must return an Upload, got {type(upload).__name__}: return the one it was given, "
                "changed by _replace(total=..., each=...)"
            )
    total, each = upload
    # in "raise" mode the sum of the totals is checked once a round instead, which costs nothing
    looked_at = (each, report.info.get("loss", ()))
    if round_fn.on_nonfinite == "drop":
        looked_at = (looked_at, total)
    finite = tree.all_finite(looked_at) & tree.stays_sound(state, slot.state)
    keep = slot.present & finite if round_fn.on_nonfinite == "drop" else slot.present
    total, asked = tree.where(keep, (total, asked), tree.zeros_like((total, asked)))
    state = tree.where(keep, state, slot.state)
    each = tree.where(keep, each, tree.zeros_like(each))
    return (total, asked), (state, each, answers, report.info, finite)


def _same_types(old: PyTree, new: PyTree) -> PyTree:
    """`new`, which must have the structure, shapes and dtypes of `old`.

    Raises:
        TypeError: it has not; the message names the leaf.
    """
    before, after = jax.tree.structure(old), jax.tree.structure(new)
    if before != after:
        raise TypeError(f"a round must keep the structure of its state, got {after} after {before}")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new)):
        if jnp.shape(a) != jnp.shape(b) or jnp.result_type(a) != jnp.result_type(b):
            raise TypeError(
                f"a round must keep shapes and dtypes of its state, got {jnp.result_type(b)}{jnp.shape(b)} "
                f"after {jnp.result_type(a)}{jnp.shape(a)} at {jax.tree_util.keystr(path)}"
            )
    return new
