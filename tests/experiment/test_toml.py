"""Lines of keys, and a writer whose text reads back as it was."""

import datetime
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_het.experiment.toml import dump, key_lines, literal

VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_- .é\n\x7f", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text('abc." \x85', max_size=4), VALUES, max_size=4))
def test_what_is_written_reads_back_as_it_was(table: dict) -> None:
    assert tomllib.loads(dump(table)) == table


@given(st.floats(allow_nan=False))
def test_floats_read_back_to_the_last_bit(value: float) -> None:
    assert tomllib.loads(f"x = {literal(value)}")["x"].hex() == value.hex()


def test_tables_of_tables_get_headers_and_inner_tables_stay_on_their_line() -> None:
    text = dump({"methods": {"a": {"mu": 0.1, "server": {"name": "adam"}}, "b": {}}, "rounds": 5})
    assert text == 'rounds = 5\n\n[methods.a]\nmu = 0.1\nserver = {name = "adam"}\n\n[methods.b]\n'


def test_entries_of_a_list_of_tables_get_headers_and_are_numbered() -> None:
    table = {"rounds": 5, "data": {"flat": True}, "shifts": [{"name": "a", "change": {"b": 1}}, {}], "last": 1}
    text = dump(table)
    assert text.endswith('[[shifts]]\nname = "a"\nchange = {b = 1}\n\n[[shifts]]\n')
    assert tomllib.loads(text) == table
    assert dump({"shifts": []}) == "shifts = []\n"
    written = """\
[[shifts]]
name = "sudden"
[shifts.change]
rate = 3
[[shifts]]
[[shifts.changes]]
[[shifts.changes]]
name = "a"
[[shifts]]
[[shifts.changes]]
[other]
name = "b"
"""
    found = dict(reversed(key_lines(written)))
    assert found == {
        "shifts[0]": 1,
        "shifts[0].name": 2,
        "shifts[0].change": 3,
        "shifts[0].change.rate": 4,
        "shifts[1]": 5,
        "shifts[1].changes[0]": 6,
        "shifts[1].changes[1]": 7,
        "shifts[1].changes[1].name": 8,
        "shifts[2]": 9,
        "shifts[2].changes[0]": 10,
        "other": 11,
        "other.name": 12,
    }


def test_a_value_that_toml_lacks_is_refused() -> None:
    with pytest.raises(TypeError, match="one that TOML has, got object"):
        dump({"x": object()})
    with pytest.raises(TypeError, match="got NoneType"):
        literal(None)


def test_keys_know_their_lines() -> None:
    text = """\
# a comment with key = 1
name = "a # [not] a = header"   # [neither]

seeds = [
  0,  # one ]
  1, "]", '[', "\\"]",
]
text = '''
[clients] [
alpha = 3
'''
when = 1979-05-27
[clients]
name = "dirichlet"
alpha = 0.1
[ methods . "my label" ]
server.name = "adam"
server.b1 = 0.8
local = {name = "sgd", epochs = 2}
"""
    found = dict(reversed(key_lines(text.replace("\n", "\r\n"))))
    assert found == {
        "name": 2,
        "seeds": 4,
        "text": 8,
        "when": 12,
        "clients": 13,
        "clients.name": 14,
        "clients.alpha": 15,
        "methods": 16,
        "methods.my label": 16,
        "methods.my label.server": 17,
        "methods.my label.server.name": 17,
        "methods.my label.server.b1": 18,
        "methods.my label.local": 19,
        "methods.my label.local.name": 19,
        "methods.my label.local.epochs": 19,
    }
    assert tomllib.loads(text)["when"] == datetime.date(1979, 5, 27)
