"""Weights of the clients of a cohort, and what they reveal.

A weighting is a pytree callable (sizes float [C], cohort) -> omega float [C], 0 where absent. The engine
calls it once a round, before clients work, on the whole cohort. Each algorithm names its paper's default.

A simulation hands every weighting the exact sizes; in earnest the server knows what clients tell it:

| weighting | the server learns of a client | for |
|---|---|---|
| `uniform`, `per_draw` | that it has rows | every client counts alike; draws with replacement |
| `proportional`, `unbiased` | n_k | every row counts alike |
| `clip_counts` | n_k up to a limit | large clients count less |
| `buckets` | the order of magnitude of n_k | rows count about alike, sizes stay at home |
| `noisy` | n_k and noise, once | the same, with a bound on what can be inferred (`privacy`) |
| `capped` | what its base reveals | no client has more than a share c |
| `given` | nothing | weights from elsewhere |

Exact sizes are not harmless. How many rows a client has may be a secret by itself (visits to a clinic, messages
sent), it changes when a row comes or goes, and a client whose size nobody else has is known by it whatever else
is hidden: `truth["size_alone"]` of a federation names those. The weighting is not the only place: methods that
report their number of local steps (FedNova, and SCAFFOLD by the scale of its controls) reveal n_k / batch size
through it, whatever the weights are.
"""

from fedjax_het.weighting.buckets import Buckets, buckets
from fedjax_het.weighting.capped import Capped, capped
from fedjax_het.weighting.counts import clip_counts
from fedjax_het.weighting.fairness import fair, simplex, tilted
from fedjax_het.weighting.noisy import MECHANISMS, Noisy, noisy
from fedjax_het.weighting.plain import given, normalise, proportional, uniform
from fedjax_het.weighting.privacy import Privacy, privacy
from fedjax_het.weighting.unbiased import Unbiased, per_draw, unbiased

__all__ = [
    "Buckets",
    "Capped",
    "MECHANISMS",
    "Noisy",
    "Privacy",
    "Unbiased",
    "buckets",
    "capped",
    "clip_counts",
    "fair",
    "given",
    "noisy",
    "normalise",
    "per_draw",
    "privacy",
    "proportional",
    "simplex",
    "tilted",
    "unbiased",
    "uniform",
]
