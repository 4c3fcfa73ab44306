"""Packages that only some people need: imported where they are used, with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["need"]


def need(module: str, extra: str) -> ModuleType:
    """The module, which comes with one of the extras.

    Args:
        module: its full name, such as "tensorboardX".
        extra: the extra of this package that installs it, such as "track".

    Returns:
        The imported module.

    Raises:
        ModuleNotFoundError: it, or something that it needs, is not installed; the message has the command. A
            module that is there but broken raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{module} must be installed for this, got {str(error)!r}: run pip install 'fedjax-het[{extra}]'",
            name=error.name,
        ) from error
