"""What was done to the clients, as pictures say it."""

from __future__ import annotations

import re

import numpy as np

from fedjax_het.federation import Federation

__all__ = ["clusters_of", "numbers_of", "said"]

UNITS = {"angle": "°", "sigma": " px"}
"""What follows a number of this name."""

ELSEWHERE = ("cluster", "sizes", "cut", "begin", "begins", "switch", "first", "delay")
"""Names that say nothing about how a client sees its rows: sizes, times of change."""


def clusters_of(federation: Federation) -> np.ndarray | None:
    """The latent cluster of each client, int [N]; of a later state where the first has none; None for none."""
    named = re.compile(r"(state \d+/)?cluster")
    for name in sorted(federation.truth, key=lambda name: (len(name), name)):
        value = np.asarray(federation.truth[name])
        if named.fullmatch(name) and value.shape == (federation.num_clients,) and value.dtype.kind in "iu":
            return value.astype(np.int64)
    return None


def numbers_of(federation: Federation) -> dict[str, np.ndarray]:
    """By name the floats [N] that tell clients apart, such as angles; not what changes from state to state."""
    told = {}
    for name, entry in federation.truth.items():
        value, noun = np.asarray(entry), re.sub(r"/\d+$", "", name)
        changes = any(re.fullmatch(rf"state \d+/{re.escape(name)}", other) for other in federation.truth)
        if value.shape != (federation.num_clients,) or value.dtype.kind != "f" or changes:
            continue
        if noun not in ELSEWHERE and not noun.startswith("state ") and len(value) and np.ptp(value) > 0:
            told[name] = value
    return told


def said(federation: Federation, client: int, most: int = 2) -> list[str]:
    """What is known of a client in words, such as ["cluster 2", "angle 34°"].

    Args:
        federation: whose truth is read.
        client: its number.
        most: numbers besides the cluster.
    """
    cluster = clusters_of(federation)
    words = [] if cluster is None else [f"cluster {cluster[client]}"]
    for name, value in list(numbers_of(federation).items())[:most]:
        words.append(f"{name} {value[client]:.3g}{UNITS.get(name.split('/')[0], '')}")
    return words
