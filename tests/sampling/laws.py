"""What samplers draw with which probability: every outcome enumerated, as tuples of counts, one a client."""

import itertools
import math
from collections import defaultdict

import numpy as np


def as_counts(ids, clients):
    return tuple(np.bincount(np.asarray(ids, int), minlength=clients).tolist())


def without_replacement(clients, size):
    """Every subset alike."""
    subsets = list(itertools.combinations(range(clients), size))
    return {as_counts(ids, clients): 1 / len(subsets) for ids in subsets}


def with_replacement(shares, size):
    """Multinomial: m independent draws."""
    law = defaultdict(float)
    for ids in itertools.product(range(len(shares)), repeat=size):
        law[as_counts(ids, len(shares))] += math.prod(shares[k] for k in ids)
    return dict(law)


def one_by_one(shares, size):
    """Draws without replacement, each in proportion to the shares of those left."""
    law = defaultdict(float)
    for ids in itertools.permutations(range(len(shares)), size):
        chance, left = 1.0, 1.0
        for k in ids:
            if shares[k] == 0:
                chance = 0.0
                break
            chance *= shares[k] / left
            left -= shares[k]
        law[as_counts(ids, len(shares))] += chance
    return dict(law)


def by_coins(chances):
    """Each client by its own coin."""
    law = {}
    for came in itertools.product((0, 1), repeat=len(chances)):
        law[came] = math.prod(p if here else 1 - p for p, here in zip(chances, came))
    return law


def at_most(law, slots):
    """Of those who came, all subsets of `slots` alike, where there are more."""
    out = defaultdict(float)
    for came, chance in law.items():
        ids = [k for k, here in enumerate(came) if here]
        seated = list(itertools.combinations(ids, min(slots, len(ids))))
        for some in seated:
            out[as_counts(some, len(came))] += chance / len(seated)
    return dict(out)


def thinned(law, chance):
    """Each client drawn is lost with this probability."""
    out = defaultdict(float)
    for drawn, probability in law.items():
        ids = [k for k, here in enumerate(drawn) if here]
        for kept in itertools.product((0, 1), repeat=len(ids)):
            stays = sum(kept)
            who = as_counts([k for k, keep in zip(ids, kept) if keep], len(drawn))
            out[who] += probability * (1 - chance) ** stays * chance ** (len(ids) - stays)
    return dict(out)
