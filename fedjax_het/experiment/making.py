"""Making: what a configuration names is built, and what the library refuses is said of the key that asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedjax_het.experiment.source import ConfigError
from fedjax_het.experiment.values import NONE, Choice, make

__all__ = ["agree", "as_written", "begun", "made"]


def agree(keys: Sequence[str], told: str, check: Any, *arguments: Any) -> None:
    """Call a check; its complaint is said of `keys`, after `told`.

    Raises:
        ConfigError: the check raised a TypeError or ValueError.
    """
    try:
        check(*arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{told}: {as_written(error)}", *keys) from error


def begun(keys: Sequence[str], choice: Choice, told: str, check: Any, *arguments: Any) -> None:
    """Call a check of what was made of `choice`, whose key is the first one; its complaint is said of the
    option that it begins with, or of `keys`, after `told`.

    Raises:
        ConfigError: the check raised a TypeError or ValueError.
    """
    try:
        check(*arguments)
    except (TypeError, ValueError) as error:
        raise _blaming(keys, choice, told, error) from error


def made(section: str, choice: Choice, key: str | None = None, **context: Any) -> Any:
    """Call a factory; its complaint is said of the key that holds the argument."""
    key = section if key is None else key
    try:
        return make(section, choice, context)
    except (TypeError, ValueError, OSError) as error:
        raise _blaming((key,), choice, f"{key} = {choice.name!r} cannot be built", error) from error


def as_written(error: Exception) -> str:
    """What the library says, in the words of a file: it has no None, and small letters in true and false."""
    words = {"None": f'"{NONE}"', "True": "true", "False": "false"}
    return re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[0]], str(error))


def _blaming(keys: Sequence[str], choice: Choice, told: str, error: Exception) -> ConfigError:
    """The error, said of the option that it begins with; of `keys`, after `told`, if there is none."""
    word = str(error).split(" ", 1)[0]
    blamed = _holder(choice.options, word, keys[0])
    if blamed is None:
        return ConfigError(f"{told}: {as_written(error)}", *keys)
    return ConfigError(f"{blamed.removesuffix(word)}{as_written(error)}", blamed, *keys[1:])


def _holder(options: Mapping[str, Any], name: str, key: str) -> str | None:
    """The dotted key of the option called `name`, outermost first."""
    if name in options:
        return f"{key}.{name}"
    nested = (
        _holder(value.options, name, f"{key}.{option}")
        for option, value in options.items()
        if isinstance(value, Choice)
    )
    return next((found for found in nested if found is not None), None)
