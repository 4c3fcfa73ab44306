"""Linear algebra on one thread: for many small products more threads wait for each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """BLAS on one thread of the process, as a context or a decorator.

    On a machine whose cores are taken, the null distributions are several times as fast.
    """
    from threadpoolctl import threadpool_limits  # comes with scikit-learn, which the limits are for too

    with threadpool_limits(limits=1, user_api="blas"):
        yield
