"""Federations over time: several states of the same clients as the phases of one, and who is in which when."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, positive_ints, require, short, whole
from fedjax_het.federation import SPLITS, Federation, Rows, Transform
from fedjax_het.transforms import expect_federation, merged
from fedjax_het.typing import Array

__all__ = [
    "Season",
    "Switch",
    "of_one_phase",
    "over_time",
    "phases",
    "same_clients",
    "season",
    "states_truth",
    "switch",
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)  # so that `jax.jit(schedule)` can hash it whatever its leaves
class Switch:
    """A schedule: phase t begins at a round of its own, phase 0 at once.

    Attributes:
        at: the first rounds of phases 1, 2, ..., int32 [T - 1], ascending.
    """

    at: Array

    def __call__(self, round_: Array) -> Array:
        """How many phases have begun since the first, int32 scalar."""
        return jnp.sum(round_ >= self.at, dtype=jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)  # so that `jax.jit(schedule)` can hash it whatever its leaves
class Season:
    """A schedule: phases follow each other in turn and begin again.

    Attributes:
        length: rounds of a phase, int32 scalar.
        phases: how many come again and again, int32 scalar.
        once: how many come before them and never again, int32 scalar.
    """

    length: Array
    phases: Array
    once: Array

    def __call__(self, round_: Array) -> Array:
        """Which phase the round is in, int32 scalar."""
        turn = round_ // self.length
        again = self.once + (turn - self.once) % self.phases
        return jnp.where(turn < self.once, turn, again).astype(jnp.int32)


def switch(at: Sequence[int]) -> Switch:
    """The schedule in which phase t begins at round at[t - 1].

    Args:
        at: T - 1 whole numbers >= 0, ascending. Of phases that begin in the same round the last one counts.

    Raises:
        TypeError: not whole numbers.
        ValueError: negative rounds, or a round before the one in front of it.
    """
    told = np.array(positive_ints("at", at, least=0, remedy="rounds begin at 0"), np.int64)
    require(
        bool(np.all(np.diff(told) >= 0)),
        f"at must list rounds in ascending order, got {short(told.tolist())}: sort them",
    )
    return Switch(whole("at", told, least=0, remedy="rounds are int32"))


def season(length: int, phases: int, *, once: int = 0) -> Season:
    """The schedule in which phases of `length` rounds each follow each other again and again.

    Args:
        length: rounds of a phase.
        phases: how many come again and again.
        once: how many come before them, each once: phases 0 to once - 1.

    Raises:
        TypeError: not whole numbers.
        ValueError: below 1 (0 for `once`).
    """
    length = positive_int("length", length, remedy="it is the rounds of a phase, such as 10")
    phases = positive_int("phases", phases, remedy="it is how many there are")
    once = positive_int("once", once, least=0, remedy="it is how many do not come again")
    return Season(whole("length", length), whole("phases", phases), whole("once", once, least=0))


def of_one_phase(name: str, federation: Any) -> Federation:
    """`federation`, which must not change over time yet.

    Raises:
        TypeError: no federation.
        ValueError: it has phases.
    """
    held = expect_federation(name, federation)
    require(
        held.spec.phases == 1,
        f"{name} must have one phase for this, got {held.spec.phases}: apply what changes over time last",
    )
    return held


def same_clients(name: str, state: Federation, other: str, first: Federation) -> None:
    """Raise unless `state` has the clients and the pool of `first`.

    Args:
        name: what `state` is, for the message.
        state: a federation.
        other: what `first` is, for the message.
        first: a federation.

    Raises:
        ValueError: other clients, or another pool.
    """
    require(
        state.num_clients == first.num_clients,
        f"{name} must have the {first.num_clients} clients of {other}, got {state.num_clients}: keep them all",
    )
    pairs = [(state.x, first.x), (state.y, first.y)]
    require(
        state.spec.pool == first.spec.pool
        and all(a is b or (a.shape == b.shape and bool(jnp.all(a == b))) for a, b in pairs),
        f"{name} must have the pool of {other}, got another one, {state.spec.pool.name!r} of "
        f"{state.x.shape[0]} rows: make both from one pool",
    )


def phases(states: Sequence[Federation], schedule: Any, *, which: Any = None) -> Federation:
    """One federation whose clients are in `states[t]` during phase t.

    Rows that two states share are stored once, and so are their transforms. A transform that only some states
    have is switched off in the others.

    Args:
        states: federations of one phase each, of the same clients over one pool.
        schedule: round -> phase, such as `switch` or `season`: a pytree callable, or a plain function.
        which: the state that each client is in, phase by phase, int [T, N]; by default everybody is in
            states[t] in phase t.

    Returns:
        The federation; truth: the first state's, and what differs from it in state s under "state s/name".

    Raises:
        TypeError: no federations, a schedule that is no function, a `which` that is no whole numbers.
        ValueError: no states, other clients or another pool, a state that has phases of its own, a schedule of
            another number of phases, a `which` of another shape or of states that there are not.
    """
    if not isinstance(states, Sequence):
        raise TypeError(f"states must be a list of federations, got {type(states).__name__}: pass one a phase")
    require(len(states) > 0, "states must list at least one federation, got none: pass one a phase")
    held = [of_one_phase(f"states[{s}]", state) for s, state in enumerate(states)]
    first = held[0]
    for s, state in enumerate(held[1:], 1):
        same_clients(f"states[{s}]", state, "states[0]", first)
    choice = None if which is None else _choice(which, len(held), first.num_clients)
    rows = {split: _joined([state.rows(split) for state in held]) for split in SPLITS}
    transforms = merged([state.transforms for state in held], first.num_clients)
    if choice is not None:
        rows = {
            split: Rows(each.index, *(_chosen(leaf, choice) for leaf in (each.offset, each.size)))
            for split, each in rows.items()
        }
        chosen = functools.partial(_chosen, choice=choice)
        transforms = tuple(
            Transform(jax.tree.map(chosen, each.arguments), each.function) for each in transforms
        )
    count = len(held) if choice is None else len(choice)
    return over_time(first, schedule, count, rows=rows, transforms=transforms, truth=states_truth(held))


def states_truth(states: Sequence[Federation]) -> dict[str, Array]:
    """What is recorded of the first state, and under "state s/name" what is not the same in state s."""
    truth = dict(states[0].truth)
    for s, state in enumerate(states[1:], 1):
        for name, value in state.truth.items():
            if name not in truth or not np.array_equal(truth[name], value):
                truth[f"state {s}/{name}"] = value
    return truth


def over_time(
    federation: Federation,
    schedule: Any,
    phases: int,
    *,
    rows: Mapping[str, Rows],
    truth: Mapping[str, Array],
    transforms: tuple[Transform, ...] | None = None,
) -> Federation:
    """`federation` with rows that change over time: what all that makes phases ends in.

    Args:
        federation: any.
        schedule: see `phases`.
        phases: T.
        rows: new rows by split, offset and size [T or 1, N]; other splits keep theirs.
        truth: all of it.
        transforms: all of them, arguments [T or 1, N, ...]; those of `federation` if None.

    Raises:
        TypeError: a schedule that is no function.
        ValueError: a schedule of another number of phases, or one that does not return a scalar.
    """
    if not callable(schedule):
        raise TypeError(
            f"schedule must be a function of the round, got {short(schedule)}: pass switch([10]), say"
        )
    told = phases
    if isinstance(schedule, Switch):
        told = schedule.at.shape[0] + 1
    elif isinstance(schedule, Season):
        told = int(schedule.once) + int(schedule.phases)
    require(told == phases, f"schedule must be of {phases} phases, got one of {told}: make it for as many")
    if jax.tree_util.all_leaves([schedule]):  # a plain function, which could not be an argument of a program
        schedule = jax.tree_util.Partial(schedule)
    out = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
    shapes = [leaf.shape for leaf in jax.tree.leaves(out)]
    require(shapes == [()], f"schedule must return one whole number, got shapes {shapes}: return the phase")
    new = {split: rows.get(split, federation.rows(split)) for split in SPLITS}
    train, valid, test = (int(np.max(each.size)) for each in new.values())
    return dataclasses.replace(
        federation,
        **new,
        transforms=federation.transforms if transforms is None else transforms,
        schedule=schedule,
        truth=dict(truth),
        spec=dataclasses.replace(federation.spec, phases=phases, capacity=(train, valid, test)),
    )


def _joined(rows: Sequence[Rows]) -> Rows:
    """The rows of all states; an index that two of them share is stored once."""
    first = rows[0]
    leaves = [jax.tree.leaves(each) for each in rows]
    if all(leaf is same for each in leaves for leaf, same in zip(each, leaves[0])):
        return first
    begins, kept, total = {}, [], 0
    for each in rows:
        if id(each.index) not in begins:
            begins[id(each.index)] = total
            kept.append(each.index)
            total += each.index.shape[0]
    require(total < 2**31, f"states must hold less than 2**31 rows together, got {total}: take fewer states")
    offset = np.concatenate([np.asarray(each.offset) + begins[id(each.index)] for each in rows])
    index = kept[0] if len(kept) == 1 else jnp.asarray(np.concatenate(kept))
    size = np.concatenate([each.size for each in rows])
    return Rows(index, jnp.asarray(offset, jnp.int32), jnp.asarray(size))


def _choice(which: Any, states: int, clients: int) -> np.ndarray:
    """`which`, checked, int [T, N]."""
    choice = np.asarray(which)
    if choice.dtype.kind not in "iu":
        raise TypeError(f"which must hold whole numbers, got {short(which)}: number the states from 0")
    require(
        choice.ndim == 2 and len(choice) > 0 and choice.shape[1] == clients,
        f"which must have shape [T, {clients}], got {choice.shape}: give each client a state in each phase",
    )
    require(
        choice.min() >= 0 and choice.max() < states,
        f"which must hold states 0..{states - 1}, got {choice.min()}..{choice.max()}: number them from 0",
    )
    return choice


def _chosen(leaf: Array, choice: np.ndarray) -> Array:
    """leaf[choice[t, k], k] of [S, N, ...] as [T, N, ...]; what is the same in all states stays one entry."""
    return leaf if leaf.shape[0] == 1 else jnp.asarray(np.asarray(leaf)[choice, np.arange(choice.shape[1])])
