"""These tests need the packages of the extra `adapters` and are collected where any of them is installed.

Where only some are, the others' tests fail; where none is, `pytest tests/adapters` finds no test and fails too.
"""

from __future__ import annotations

import importlib.util
import os

os.environ["HF_HUB_OFFLINE"] = "1"

# a folder of tests has the name of a package, hence the origin
SPECS = [importlib.util.find_spec(name) for name in ("datasets", "flwr_datasets", "h5py")]

INSTALLED = any(spec is not None and spec.origin is not None for spec in SPECS)

collect_ignore_glob = [] if INSTALLED else ["test_*.py"]
