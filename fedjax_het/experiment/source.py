"""Where a configuration came from, and errors that say so."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fedjax_het.experiment.toml import key_lines

__all__ = ["ConfigError", "Source", "about", "nearest", "read"]


@dataclasses.dataclass(frozen=True)
class Source:
    """The text of a file and the overrides given with it.

    Attributes:
        file: its path as given; "" without a file.
        text: what it holds.
        overrides: (dotted key, the override as given), in order.
    """

    file: str = ""
    text: str = ""
    overrides: tuple[tuple[str, str], ...] = ()

    def where(self, key: str) -> str | None:
        """The place that set `key`, or else the table it lies in, or what lies in it; None: a default."""
        places = [(name, f"override {given!r}") for name, given in reversed(self.overrides)]
        places += [(name, f"{self.file}, line {line}") for name, line in key_lines(self.text)]
        parts = re.split(r"(?=[.\[])", key)
        for wanted in ("".join(parts[:count]) for count in range(len(parts), 0, -1)):
            for name, place in places:
                if name == wanted:
                    return place
        return next((place for name, place in places if name.startswith((f"{key}.", f"{key}["))), None)


class ConfigError(ValueError):
    """A configuration that cannot be run.

    Attributes:
        keys: dotted keys that are to blame.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys

    def at(self, source: Source) -> ConfigError:
        """The same error, its message led by the places that set the keys."""
        places = list(dict.fromkeys(place for key in self.keys if (place := source.where(key))))
        again = f"{source.file}, "  # the file is named once
        places = places[:1] + [place.removeprefix(again) for place in places[1:]]
        return ConfigError(f"{' and '.join(places)}: {self}", *self.keys) if places else self


@contextlib.contextmanager
def about(*keys: str) -> Iterator[None]:
    """Turn a failed check into an error about these keys."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), *keys) from error


def nearest(word: str, names: Iterable[str]) -> str:
    """ "did you mean 'NAME'? " for the name that is most like `word`, or ""."""
    near = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? " if near else ""


def read(path: str | Path) -> tuple[dict[str, Any], str]:
    """(table, text) of a TOML file.

    Raises:
        ConfigError: there is no such file, or it is not TOML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise ConfigError(f"{path} must be a TOML file, got a folder: try {path}/config.toml") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be a TOML file in UTF-8, got other bytes: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} must be a TOML file that can be read, got: {error.strerror}") from None
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        raise ConfigError(
            f"{path}, {place.removesuffix(')')}: file must be TOML, got: {what}; text is written in quotes as "
            'name = "fedprox", a list as [0, 1, 2], true and false in small letters, and every key once'
        ) from None
