"""Leaf selectors: functions of a leaf's path that say which part of a model it belongs to.

A path reads "dense_0/kernel". Selectors built twice from the same facts are equal, so they may be static
fields. A method that splits a model (FedPer, FedRep, LG-FedAvg, FedBN) takes one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax

from fedjax_het import tree
from fedjax_het.check import require, short
from fedjax_het.problem import Problem
from fedjax_het.typing import Bound, Params

__all__ = [
    "Selector",
    "body",
    "check_selector",
    "head",
    "leaf_paths",
    "leaves",
    "matching",
    "named",
    "norm",
    "owners",
    "select",
    "split",
    "under",
]

Selector = Callable[[str], bool]
"""path -> whether the leaf is chosen."""


def leaves(params: Params) -> list[tuple[str, Any]]:
    """(path, leaf) of all leaves, in the order of `jax.tree.leaves`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in flat]


def leaf_paths(params: Params) -> list[str]:
    """The paths of all leaves, such as "head/kernel", in the order of `jax.tree.leaves`."""
    return [path for path, _ in leaves(params)]


def under(prefixes: tuple[str, ...], path: str) -> bool:
    """Whether one of `prefixes` is the path or its leading parts: "head" is of "head/bias", not "header"."""
    return any(path == prefix or path.startswith(prefix + "/") for prefix in prefixes)


def _outside(prefixes: tuple[str, ...], path: str) -> bool:
    return not under(prefixes, path)


def named(names: tuple[str, ...], path: str) -> bool:
    """Whether one of `names` leads the path, or is any single part of it."""
    return under(names, path) or any(part in names for part in path.split("/"))


def _matches(pattern: str, path: str) -> bool:
    return re.search(pattern, path) is not None


def _head(problem: Problem) -> tuple[str, ...]:
    facts = problem.facts
    require(
        bool(facts.head),
        f"problem must say which leaves are its head, got head=() of {facts.name!r}: pass head=('NAME',) "
        "where the problem is built, or select by matching(regex)",
    )
    return facts.head


def head(problem: Problem) -> Selector:
    """The leaves of the head (`problem.facts.head`).

    Raises:
        ValueError: the problem does not say what its head is.
    """
    return Bound(under, (_head(problem),))


def body(problem: Problem) -> Selector:
    """All leaves but the head's.

    Raises:
        ValueError: the problem does not say what its head is.
    """
    return Bound(_outside, (_head(problem),))


def norm(problem: Problem) -> Selector:
    """The leaves of the normalisation layers (`problem.facts.norm`).

    Raises:
        ValueError: the problem has no normalisation layers that it knows of.
    """
    facts = problem.facts
    require(
        bool(facts.norm),
        f"problem must have normalisation layers, got norm=() of {facts.name!r}: use a model that has some, "
        "pass norm=('NAME',) where the problem is built, or select by matching(regex)",
    )
    return Bound(named, (facts.norm,))


def matching(regex: str) -> Selector:
    """The leaves in whose path `regex` is found anywhere (`re.search`), for example "^dense_[01]/".

    Raises:
        ValueError: `regex` is not a regular expression.
    """
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(
            f"regex must be a regular expression, got {regex!r}: {error}; escape its special characters"
        ) from None
    return Bound(_matches, (regex,))


def select(params: Params, chosen: Selector) -> tuple[Params, Params]:
    """`tree.partition`, which refuses a split that leaves one part without a leaf.

    Args:
        params: any pytree; leaves may be `jax.ShapeDtypeStruct`.
        chosen: path -> whether the leaf goes to the first part.

    Returns:
        (first, second): the tree twice, with `tree.Absent` where a leaf went to the other part.

    Raises:
        ValueError: all or none of the leaves are chosen; the message lists them.
    """
    paths = leaf_paths(params)
    picks = [bool(chosen(path)) for path in paths]
    require(
        any(picks) and not all(picks),
        f"selector must choose some leaves and not others, got {'all' if any(picks) else 'none'} of them: "
        f"the leaves are {', '.join(paths) or 'none at all'}",
    )
    return tree.partition(params, chosen)


def split(problem: Problem, chosen: Selector) -> tuple[Params, Params]:
    """`select` on the leaves of a problem's model, as shapes.

    Raises:
        ValueError: all or none of the leaves are chosen; the message lists them, and says so if the model is
            nothing but a head.
    """
    params = jax.eval_shape(problem.init, jax.random.key(0)).params
    try:
        return select(params, chosen)
    except ValueError as error:
        heads = problem.facts.head
        if not heads or not all(under(heads, path) for path in leaf_paths(params)):
            raise
        raise ValueError(
            f"{error}; {problem.facts.name!r} is all head, one layer: take a model with a layer before its "
            "head, such as mlp"
        ) from None


def owners(params: Params, **parts: Selector) -> dict[str, str]:
    """Which part each leaf belongs to, where every leaf must belong to exactly one.

    Args:
        params: any pytree; leaves may be `jax.ShapeDtypeStruct`.
        parts: name of a part -> path -> whether the leaf is of it.

    Returns:
        path -> name of its part.

    Raises:
        ValueError: leaves of no part, leaves of two parts, or a part without a leaf; the message lists them.
    """
    claims = {path: [name for name, of in parts.items() if of(path)] for path in leaf_paths(params)}
    names = " and ".join(parts)
    orphans = [path for path, claim in claims.items() if not claim]
    twice = [f"{path} of {' and '.join(claim)}" for path, claim in claims.items() if len(claim) > 1]
    require(not twice, f"{names} must not share a leaf, got {', '.join(twice)}: select each leaf once")
    require(
        not orphans,
        f"{names} must have every leaf between them, got neither for {', '.join(orphans)}: add them",
    )
    for name in parts:
        require(
            any(name in claim for claim in claims.values()),
            f"{name} must select a leaf, got none of them: the leaves are {', '.join(claims)}",
        )
    return {path: claim[0] for path, claim in claims.items()}


def check_selector(name: str, selector: Any) -> None:
    """Raise `TypeError` unless it is a function of a path.

    Args:
        name: the argument's, for the message.
        selector: what was given.
    """
    if not callable(selector):
        raise TypeError(
            f"{name} must be a function of a leaf's path, got {short(selector)}: pass "
            "fh.models.selectors.head(problem) or fh.models.selectors.matching('head/.*')"
        )
