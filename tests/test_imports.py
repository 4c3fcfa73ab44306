"""What `import fedjax_het` loads, and that every module says what it offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fedjax_het"

LATE = (
    "matplotlib",
    "sklearn",
    "orbax",
    "rich",
    "pandas",
    "flax",
    "chex",
    "torch",
    "datasets",
    "h5py",
    "scipy.stats",
)
"""Imported where they are used."""


@pytest.mark.smoke
def test_importing_the_package_loads_nothing_heavy() -> None:
    program = f"import sys, fedjax_het; print([name for name in {LATE!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.smoke
def test_every_module_lists_its_public_names() -> None:
    """Beginning with a docstring; `__main__`, which nobody imports, is let off."""
    for path in sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__main__.py"}):
        body = ast.parse(path.read_text()).body
        assert isinstance(body[0], ast.Expr), f"{path} has no docstring"
        targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        assert "__all__" in names, f"{path} has no __all__"
