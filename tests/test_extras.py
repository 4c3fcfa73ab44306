"""A missing package is named with the command that installs it, and that command is right."""

import ast
import json
import sys
import tomllib
from pathlib import Path

import pytest

from fedjax_het.extras import need

ROOT = Path(__file__).parents[1]


def calls_of_need():
    """(file, module, extra) of every call in the package."""
    for path in sorted((ROOT / "fedjax_het").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "need":
                yield path.name, *(ast.literal_eval(argument) for argument in node.args)


def test_what_is_there_is_returned():
    assert need("json", "track") is json


def test_a_missing_module_is_named_with_the_command():
    with pytest.raises(ModuleNotFoundError) as caught:
        need("no_such_module", "track")
    assert str(caught.value) == (
        "no_such_module must be installed for this, got \"No module named 'no_such_module'\": "
        "run pip install 'fedjax-het[track]'"
    )
    assert caught.value.name == "no_such_module"


def test_a_module_that_lacks_what_it_needs(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ModuleNotFoundError, match=r"half_there must be .* 'not_there_at_all'.*fedjax-het\[data\]"
    ):
        need("half_there", "data")


def test_a_broken_module_raises_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("raise ImportError('built for another machine')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"^built for another machine$"):
        need("broken_one", "data")
    assert "broken_one" not in sys.modules


def test_every_call_names_an_extra_that_brings_the_module():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    calls = list(calls_of_need())
    assert ("tracking.py", "tensorboardX", "track") in calls
    for file, module, extra in calls:
        brought = [
            requirement.lower().startswith(module.split(".")[0].lower().replace("_", "-"))
            for requirement in extras[extra]
        ]
        assert any(brought), f"{file}: extra {extra!r} does not bring {module}"
