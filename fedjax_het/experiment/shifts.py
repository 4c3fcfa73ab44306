"""The list `shifts` of a configuration: what is done to the clients, in order."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.source import ConfigError
from fedjax_het.experiment.values import Choice, complete
from fedjax_het.federation import Federation

__all__ = ["Step", "listed", "shifted", "step"]


@dataclasses.dataclass(frozen=True)
class Step:
    """A shift with its options fixed: a function of a federation whose complaints are said of its entry.

    Attributes:
        function: Federation -> Federation.
        choice: the shift's name and options.
        key: where it stands, such as "shifts[1].change".
    """

    function: functools.partial[Federation]
    choice: Choice
    key: str

    def __call__(self, federation: Federation) -> Federation:
        """The federation, changed.

        Raises:
            ConfigError: the shift, or one inside of it, refuses its options or the federation.
        """
        try:
            return self.function(federation)
        except (TypeError, ValueError) as error:
            inner = _of_a_step(error)
            if inner is not None:
                raise inner from inner.__cause__
            option = re.split(r"\W", str(error), maxsplit=1)[0]
            if option in self.choice.options:
                raise ConfigError(f"{self.key}.{error}", f"{self.key}.{option}") from error
            raise ConfigError(
                f"{self.key} = {self.choice.name!r} cannot be applied: {error}", self.key
            ) from error


def listed(given: Any) -> tuple[Choice, ...]:
    """The entries of `shifts`, complete.

    Args:
        given: a list of names, tables with a "name", and Choices.

    Raises:
        ConfigError: no list; see `values.complete` for its entries.
    """
    if not isinstance(given, (list, tuple)):
        raise ConfigError(
            f"shifts must be a list, got {given!r}: begin each entry with [[shifts]], or write "
            'shifts = ["swap", {name = "rotate", spread = 30}]',
            "shifts",
        )
    return tuple(complete("shift", one, f"shifts[{place}]") for place, one in enumerate(given))


def shifted(federation: Federation, shifts: Sequence[Choice]) -> Federation:
    """What comes of a federation when the shifts are applied, one after the other.

    Args:
        federation: any.
        shifts: completed choices of the section "shift".

    Raises:
        ConfigError: see `Step`; it names the entry.
    """
    for place, choice in enumerate(shifts):
        federation = step(choice, f"shifts[{place}]")(federation)
    return federation


def step(choice: Choice, key: str) -> Step:
    """A completed choice as a function.

    Args:
        choice: of the section "shift".
        key: where it stands, for messages.
    """
    options = {name: _value(value, f"{key}.{name}") for name, value in choice.options.items()}
    return Step(functools.partial(CHOICES["shift"][choice.name].call, **options), choice, key)


def _value(value: Any, key: str) -> Any:
    """A value as the library takes it: shifts inside of a shift are functions."""
    if isinstance(value, Choice):
        return step(value, key)
    if isinstance(value, tuple):
        return tuple(_value(one, f"{key}[{place}]") for place, one in enumerate(value))
    return value


def _of_a_step(error: BaseException | None) -> ConfigError | None:
    """The complaint of a step inside, whoever has wrapped it."""
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__
    return error
