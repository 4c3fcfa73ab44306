"""Federations over time: several states of the same clients as the phases of one, and who is in which when."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require, whole
from fedjax_het.federation import SPLITS, Federation, Rows, Transform
from fedjax_het.transforms import expect_federation, partly
from fedjax_het.typing import Array, PyTree

__all__ = ["Season", "Switch", "of_one_phase", "phases", "season", "switch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
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
@dataclasses.dataclass(frozen=True)
class Season:
    """A schedule: phases follow each other in turn and begin again.

    Attributes:
        length: rounds of a phase, int32 scalar.
        phases: T, int32 scalar.
    """

    length: Array
    phases: Array

    def __call__(self, round_: Array) -> Array:
        """Which phase of the current turn, int32 scalar."""
        return (round_ // self.length % self.phases).astype(jnp.int32)


def switch(at: Sequence[int]) -> Switch:
    """The schedule in which phase t begins at round at[t - 1].

    Args:
        at: T - 1 whole numbers >= 0, ascending.

    Raises:
        TypeError: not whole numbers.
        ValueError: negative rounds, or a round before the one in front of it.
    """
    rounds = whole("at", list(at) if isinstance(at, (list, tuple)) else at, least=0, remedy="rounds begin at 0")
    told = np.asarray(rounds)
    require(
        told.ndim == 1 and bool(np.all(np.diff(told) >= 0)),
        f"at must list rounds in ascending order, got {told.tolist()}: sort them",
    )
    return Switch(rounds)


def season(length: int, phases: int) -> Season:
    """The schedule in which T phases of `length` rounds each follow each other again and again.

    Raises:
        TypeError, ValueError: not whole numbers >= 1.
    """
    length = positive_int("length", length, remedy="it is the rounds of a phase, such as 10")
    phases = positive_int("phases", phases, remedy="it is how many there are")
    return Season(jnp.asarray(length, jnp.int32), jnp.asarray(phases, jnp.int32))


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


def phases(states: Sequence[Federation], schedule: Any) -> Federation:
    """One federation whose clients are in `states[t]` during phase t.

    Rows that two states share are stored once, and so are their transforms. A transform that only some states
    have is switched off in the phases of the others.

    Args:
        states: T federations of one phase each, of the same clients over one pool.
        schedule: round -> phase, such as `switch` or `season`; a pytree callable.

    Returns:
        The federation; truth: the first state's, and for phase t that of state t where it differs, under
        "phase t/name".

    Raises:
        TypeError: no federations.
        ValueError: no states, other clients or another pool, a state that has phases of its own.
    """
    require(len(states) > 0, "states must list at least one federation, got none: pass one a phase")
    held = [of_one_phase(f"states[{t}]", state) for t, state in enumerate(states)]
    first = held[0]
    for t, state in enumerate(held):
        same = state.spec.pool == first.spec.pool and state.num_clients == first.num_clients
        require(
            same and state.x.shape == first.x.shape,
            f"states[{t}] must have the clients and the pool of states[0], got {state.num_clients} clients of "
            f"{state.spec.pool.name!r} for {first.num_clients} of {first.spec.pool.name!r}: make all from one",
        )
    truth = dict(first.truth)
    for t, state in enumerate(held[1:], 1):
        changed = {name: value for name, value in state.truth.items() if first.truth.get(name) is not value}
        truth |= {f"phase {t}/{name}": value for name, value in changed.items()}
    capacity = tuple(int(most) for most in np.max([state.spec.capacity for state in held], axis=0))
    return dataclasses.replace(
        first,
        **{split: _joined([state.rows(split) for state in held]) for split in SPLITS},
        transforms=_merged([state.transforms for state in held], first.num_clients),
        schedule=schedule,
        truth=truth,
        spec=dataclasses.replace(first.spec, phases=len(held), capacity=capacity),
    )


def _joined(rows: Sequence[Rows]) -> Rows:
    """The rows of all phases; an index that two of them share is stored once."""
    begins, kept, total = {}, [], 0
    for each in rows:
        if id(each.index) not in begins:
            begins[id(each.index)] = total
            kept.append(each.index)
            total += each.index.shape[0]
    require(total < 2**31, f"states must hold less than 2**31 rows together, got {total}: take fewer phases")
    offset = [each.offset + jnp.asarray(begins[id(each.index)], jnp.int32) for each in rows]
    index = kept[0] if len(kept) == 1 else jnp.concatenate(kept)
    return Rows(index, jnp.concatenate(offset), jnp.concatenate([each.size for each in rows]))


def _merged(chains: Sequence[tuple[Transform, ...]], clients: int) -> tuple[Transform, ...]:
    """One chain of transforms for all phases: what all begin with, then what each adds, where it is."""
    common = 0
    while all(len(chain) > common for chain in chains) and _alike([chain[common] for chain in chains]):
        common += 1
    merged = [_stacked([chain[place] for chain in chains]) for place in range(common)]
    added: list[list[tuple[int, Transform]]] = []
    for t, chain in enumerate(chains):
        place = 0
        for transform in chain[common:]:
            while place < len(added) and not _alike([added[place][0][1], transform]):
                place += 1
            if place == len(added):
                added.append([])
            added[place].append((t, transform))
            place += 1
    dtype = jnp.result_type(float)
    for held in added:
        on = {t: transform for t, transform in held}
        whole_time = _stacked([on.get(t, held[0][1]) for t in range(len(chains))])
        share = jnp.asarray([[1.0 if t in on else 0.0] for t in range(len(chains))], dtype)
        salt = jnp.zeros((1, clients), jnp.uint32)
        merged.append(partly(whole_time, jnp.broadcast_to(share, (len(chains), clients)), salt))
    return tuple(merged)


def _alike(transforms: Sequence[Transform]) -> bool:
    """Whether they are the same function of arguments of the same shapes."""

    def kind(transform: Transform) -> tuple[Any, ...]:
        leaves, structure = jax.tree.flatten(transform.arguments)
        return transform.function, structure, [(leaf.shape[1:], leaf.dtype) for leaf in leaves]

    return all(kind(transform) == kind(transforms[0]) for transform in transforms[1:])


def _stacked(transforms: Sequence[Transform]) -> Transform:
    """One transform whose arguments change from phase to phase, if they do."""
    if all(transform is transforms[0] for transform in transforms):
        return transforms[0]

    def stack(*leaves: Array) -> Array:
        same = all(leaf is leaves[0] for leaf in leaves)
        return leaves[0] if same and leaves[0].shape[0] == 1 else jnp.concatenate(leaves)

    arguments: PyTree = jax.tree.map(stack, *(transform.arguments for transform in transforms))
    return Transform(arguments, transforms[0].function)
