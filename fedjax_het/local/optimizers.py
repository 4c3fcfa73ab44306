"""Step rules: plain and momentum SGD, and any optax transformation with its numbers as leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_het import tree
from fedjax_het.check import number
from fedjax_het.local.schedules import Clock, Schedule, schedule, value_at
from fedjax_het.typing import Array, Bound, Params, PyTree, static

__all__ = ["Gradient", "Optax", "gradient", "optimizer", "rate"]


def rate(name: str, value: Any) -> Array | Schedule:
    """A positive step size: a number, a `Schedule`, or a function of the global step.

    Raises:
        TypeError: neither a number nor callable.
        ValueError: a number that is not positive.
    """
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return schedule(value)
    return number(name, value, above=0, remedy="a step size is positive")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gradient:
    """v <- rho v + g; y <- y - eta v. Without momentum, y <- y - eta g.

    Attributes:
        learning_rate: eta, scalar or `Schedule`.
        momentum: rho, scalar, or None for none.
    """

    learning_rate: Array | Schedule
    momentum: Array | None

    @property
    def kind(self) -> str:
        """ "sgd" or "momentum": what control variates and ||a||_1 may assume."""
        return "sgd" if self.momentum is None else "momentum"

    def init(self, params: Params) -> PyTree:
        """The velocity before the first step."""
        return () if self.momentum is None else tree.zeros_like(params)

    def rate(self, clock: Clock) -> Array:
        """eta now, scalar."""
        return value_at(self.learning_rate, clock)

    def step(self, params: Params, grads: Params, state: PyTree, clock: Clock) -> tuple[Params, PyTree]:
        """(params, velocity) after one step."""
        if self.momentum is not None:
            state = tree.add(tree.scale(self.momentum, state), grads)
            grads = state
        return tree.subtract(params, tree.scale(self.rate(clock), grads)), state


def gradient(learning_rate: Any, momentum: Any = None) -> Gradient:
    """The SGD rule.

    Args:
        learning_rate: eta > 0, a `Schedule`, or a function of the global step.
        momentum: rho in [0, 1), or None; the velocity starts at 0 every round.

    Raises:
        TypeError, ValueError: a number of the wrong kind or range.
    """
    if momentum is not None:
        momentum = number("momentum", momentum, least=0, below=1, remedy="0.9 is usual, None is plain SGD")
    return Gradient(rate("learning_rate", learning_rate), momentum)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Optax:
    """An optax transformation, built where it is used, so that its numbers are leaves.

    Attributes:
        numbers: keyword arguments that may change without a recompilation: scalars or schedules.
        factory: keyword arguments -> `optax.GradientTransformation`; static.
        options: the other keyword arguments, sorted (name, value) pairs; static.
    """

    numbers: dict[str, Array | Schedule]
    factory: Callable[..., optax.GradientTransformation] = static()
    options: tuple[tuple[str, Any], ...] = static()

    @property
    def kind(self) -> str:
        """ "adaptive": nothing may be assumed of the steps."""
        return "adaptive"

    def build(self, clock: Clock) -> optax.GradientTransformation:
        """The transformation with its numbers as they are now."""
        numbers = {name: value_at(value, clock) for name, value in self.numbers.items()}
        return self.factory(**numbers, **dict(self.options))

    def init(self, params: Params) -> PyTree:
        """The transformation's state before the first step."""
        zero = jnp.zeros((), jnp.int32)
        with jax.numpy_dtype_promotion("standard"):
            return self.build(Clock(zero, zero, zero)).init(params)

    def rate(self, clock: Clock) -> Array:
        """The argument `learning_rate` now, or nan if the transformation has none."""
        if "learning_rate" in self.numbers:
            return value_at(self.numbers["learning_rate"], clock)
        return jnp.asarray(jnp.nan, jnp.result_type(float))

    def step(self, params: Params, grads: Params, state: PyTree, clock: Clock) -> tuple[Params, PyTree]:
        """(params, state) after one step."""
        with jax.numpy_dtype_promotion("standard"):  # optax mixes counts and floats
            updates, state = self.build(clock).update(grads, state, params)
            return optax.apply_updates(params, updates), state


def _ready(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    return transformation


def optimizer(factory: Any, **arguments: Any) -> Optax:
    """An optax transformation as a rule for local steps or for the server.

    Args:
        factory: a function such as `optax.adam`, whose numeric arguments become leaves; or a finished
            transformation, whose numbers are then part of the compiled program.
        arguments: for the factory. Floats and schedules are leaves (`learning_rate` may be a function of
            the global step); everything else (bools, ints, None, strings, functions) is static.

    Returns:
        Optax.

    Raises:
        TypeError: neither a function nor a transformation; arguments for a finished transformation.
    """
    if isinstance(factory, optax.GradientTransformation):
        if arguments:
            raise TypeError(
                f"factory must be a function when arguments are given, got a finished transformation and "
                f"{sorted(arguments)}: pass optax.adam, not optax.adam(...)"
            )
        return Optax({}, Bound(_ready, (factory,)), ())
    if not callable(factory):
        raise TypeError(
            f"factory must be callable, got {factory!r}: pass the function itself, such as optax.adam"
        )
    numbers: dict[str, Array | Schedule] = {}
    options = []
    for name, value in sorted(arguments.items()):
        if name == "learning_rate":
            numbers[name] = rate(name, value)
        elif isinstance(value, (float, np.floating, np.ndarray, jax.Array, Schedule)):
            remedy = "pass a finite number or a schedule"
            numbers[name] = value if isinstance(value, Schedule) else number(name, value, remedy=remedy)
        else:
            options.append((name, value))
    zero: Any = np.zeros((), np.int32)  # of NumPy: nothing is compiled here
    now = {name: value_at(value, Clock(zero, zero, zero)) for name, value in numbers.items()}
    made: Any = factory(**now, **dict(options))
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(
            f"factory must return an optax.GradientTransformation, got {type(made).__name__}: "
            "pass a function such as optax.adam"
        )
    return Optax(numbers, cast(Callable[..., optax.GradientTransformation], factory), tuple(options))
