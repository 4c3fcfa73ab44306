"""Options are read from signatures, and every entry of CHOICES can be written in a file."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.experiment.choices import CENTRALISED, CHOICES, DEFAULTS
from fedjax_het.experiment.options import RECORDS, REQUIRED, UNFIT, factory, fit
from fedjax_het.experiment.source import ConfigError
from fedjax_het.experiment.values import complete, convert, plain, usage
from fedjax_het.federation import Federation
from fedjax_het.local import Optax

CHANGE = Callable[[Federation], Federation]

ENTRIES = [(section, name) for section, entries in CHOICES.items() for name in entries]


def _made(
    problem: Any,
    solver: Any,
    *,
    mu: Any = 0.1,
    size: int | None,
    flag: bool = False,
    kind: Literal["a", "b"] = "a",
    widths: Sequence[int] = (3,),
    server: Optax | None = None,
    hook: Callable[[int], int] | None = None,
) -> None: ...


def test_a_signature_says_what_may_be_configured() -> None:
    read = factory(_made)
    assert read.given == ("problem", "solver")
    assert list(read.options) == ["mu", "size", "flag", "kind", "widths", "server"]
    assert read.options["size"].optional
    assert read.options["size"].default is REQUIRED
    assert read.options["server"].kinds == (Optax,)
    assert read.options["kind"].words == "one of 'a', 'b'"
    assert read.options["widths"].words == "a list, each entry a whole number"
    assert usage(read).startswith('mu (a number; default 0.1), size (a whole number or "none"; required)')


def test_a_table_may_give_defaults_and_better_annotations() -> None:
    read = factory(_made, kinds={"mu": Sequence[float]}, size=4)
    assert read.options["size"].default == 4
    assert read.options["mu"].words == "a list, each entry a number"


def test_a_default_for_an_argument_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match=r"arguments of _made, got \['sise'\]"):
        factory(_made, sise=4)


def test_a_required_argument_that_no_file_can_say_is_refused() -> None:
    def needs(hook: Callable[[int], int]) -> None: ...

    with pytest.raises(TypeError, match="needs must take what a file can say, got hook"):
        factory(needs)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Any, 1, 1),
        (Any, 0.5, 0.5),
        (Any, True, UNFIT),
        (Any, "1", UNFIT),
        (float, 1, 1.0),
        (float, 10**400, UNFIT),
        (int, 1.0, UNFIT),
        (int, True, UNFIT),
        (bool, 1, UNFIT),
        (str, 1, UNFIT),
        (Literal["I", "II"], "I", "I"),
        (Literal["I", "II"], "III", UNFIT),
        (Sequence[int], [1, 2], (1, 2)),
        (tuple[int, ...], [], ()),
        (list[float], [1], (1.0,)),
        (Sequence[int], [1, "a"], UNFIT),
        (Sequence[int], 1, UNFIT),
        (Sequence[Sequence[int]], [[1], [2]], ((1,), (2,))),
        (Sequence[int | str], [1, "a"], (1, "a")),
    ],
)
def test_values_fit_their_annotations(kind: Any, value: Any, expected: Any) -> None:
    got = fit(kind, value)
    assert got is expected or (got == expected and type(got) is type(expected))


@pytest.mark.parametrize(("section", "name"), ENTRIES, ids=[f"{s}-{n}" for s, n in ENTRIES])
def test_every_entry_is_complete_or_says_what_it_needs(section: str, name: str) -> None:
    """No option is called like the keys that configurations use themselves."""
    entry = CHOICES[section][name]
    assert "name" not in entry.options
    needed = {option.name: _some(option) for option in entry.options.values() if option.default is REQUIRED}
    choice = complete(section, {"name": name, **needed}, section)
    assert list(choice.options) == list(entry.options)
    if section == "method":
        assert "local" not in entry.options


def _some(option: Any) -> Any:
    values = {int: 3, float: 0.5, str: "x", Any: 0.5, Sequence[int]: [0], Sequence[float]: [0.5]}
    values |= {Sequence[str]: ["x"], CHANGE: "rotate", Sequence[CHANGE]: ["rotate"]}
    return values.get(option.kinds[0], [[0]])


def test_a_list_may_hold_choices() -> None:
    def made(*, changes: Sequence[CHANGE], more: Sequence[CHANGE] | None = None) -> None: ...

    option = factory(made).options["changes"]
    assert option.words == "a list, each entry a shift"
    kept = convert(option, ["shards", {"name": "swap", "rate": 1}], "changes")
    assert [one.name for one in kept] == ["shards", "swap"]
    assert kept[1].options["rate"] == 1.0
    assert plain(kept)[1] == {"name": "swap", "rate": 1.0, "clusters": "none", "seed": 0}
    with pytest.raises(ConfigError, match=r"^changes\[1\] must be one of the names below.*did you mean 'swap'"):
        convert(option, ["shards", "swop"], "changes")
    with pytest.raises(ConfigError, match="changes must be a list, each entry a shift, got 'swap'"):
        convert(option, "swap", "changes")
    assert factory(made).options["more"].optional


def test_a_better_annotation_may_take_none_away() -> None:
    def made(*, test: float | None = None, clients: int | None = None) -> None: ...

    read = factory(made, without=("clients",), kinds={"test": float}, test=0.2)
    assert list(read.options) == ["test"]
    assert (read.options["test"].optional, read.options["test"].default) == (False, 0.2)


def test_every_default_and_every_record_names_a_section() -> None:
    assert set(RECORDS.values()) <= set(CHOICES)
    assert all(name in CHOICES[section] for section, name in DEFAULTS.items())


def test_algorithms_come_from_their_table() -> None:
    assert list(CHOICES["algorithm"]) == list(ALGORITHMS)
    assert set(CHOICES["method"]) == {*ALGORITHMS, CENTRALISED}
