"""What a configuration can name, listed so that nobody needs to read code."""

import json

import pytest
from rich.console import Console

from fedjax_het.experiment.choices import CHOICES
from fedjax_het.experiment.kinds import SECTIONS, kinds, table


def _text(name: str | None = None) -> str:
    console = Console(width=150)
    with console.capture() as kept:
        console.print(table(name), highlight=False)
    return kept.get()


def test_every_entry_is_listed_with_its_options_and_a_sentence() -> None:
    told = kinds()
    assert told == json.loads(json.dumps(told))
    assert list(told) == list(SECTIONS) == ["data", "clients", "shifts", "sampling", "weighting"]
    text = _text()
    for key, section in SECTIONS.items():
        assert list(told[key]) == list(CHOICES[section])
        for name, entry in CHOICES[section].items():
            facts = told[key][name]
            assert len(facts["what"].split()) > 1
            assert facts["what"][-1] in ".?", name
            assert list(facts["options"]) == list(entry.options)
            assert f" {name} " in text


def test_one_section_or_one_name() -> None:
    assert set(kinds("shifts")) == {"shifts"}
    both = kinds("dirichlet")
    assert set(both) == {"clients", "shifts"}
    assert set(both["clients"]) == {"dirichlet"}
    assert both["clients"]["dirichlet"]["options"]["min_size"] == {
        "takes": 'a whole number or "none"',
        "default": "20",
    }
    assert "min_size" not in both["shifts"]["dirichlet"]["options"]
    assert both["shifts"]["dirichlet"]["what"].startswith("Deal the rows anew.")
    text = _text("sudden")
    assert "shifts: sudden." in text
    for words in ("change", "a shift", "required", "round", "a whole number"):
        assert words in text


def test_a_name_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'rotate'\? sections are data, clients, shifts"):
        kinds("rotat")
