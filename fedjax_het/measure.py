"""Measure: a question put to every client, with the shape of an algorithm.

A measure streams through the same map-and-sum as training: a contribution per client, then a finish. It may
carry values from one round to the next. One that sums differences from a reference, which keeps digits, may
have one more method:

    begin(carry, algorithm, server, client) -> what the round's clients and `finish` see in place of the carry

with `client` the one of most weight in the cohort. It is asked once a round, before the others.
"""

from __future__ import annotations

from typing import Any, Protocol

from fedjax_het.algorithm import Client, Cohort, Report
from fedjax_het.typing import Array, PyTree

__all__ = ["Measure"]


class Measure(Protocol):
    """A frozen dataclass registered as a pytree."""

    def init(self, algorithm: Any, server: PyTree) -> PyTree:
        """The first carry; () for a measure that remembers nothing."""
        ...

    def client(
        self, carry: PyTree, algorithm: Any, server: PyTree, client: Client, report: Report | None
    ) -> tuple[PyTree, PyTree]:
        """(total, each) of one client, before the server's step.

        Args:
            carry: what the last round left.
            algorithm: the algorithm at work.
            server: the server's state that clients received.
            client: the client, with the state it had before local work.
            report: what local work produced; None in a survey, where nobody works.
        """
        ...

    def finish(
        self, carry: PyTree, algorithm: Any, server: PyTree, total: PyTree, each: PyTree, cohort: Cohort
    ) -> tuple[dict[str, Array], PyTree]:
        """(values by name, the next carry)."""
        ...
