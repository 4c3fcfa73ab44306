"""Mean regularisation and L2GD: a model for everyone and no other, held near the mean of all."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.filters import local_filter, spectral, times, work
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.check import number
from fedjax_het.typing import Array

__all__ = ["Coin", "l2gd", "meanreg"]


class Coin(NamedTuple):
    """The rounds of `l2gd`.

    Attributes:
        alone: clients take local steps.
        together: clients move towards their mean.
        mean: p together + (1 - p) alone, which carries the expectation of the state from round to round.
    """

    alone: Affine
    together: Affine
    mean: Affine


def _own(functions: Quadratics, step: Any) -> Affine:
    """The map of v_1 .. v_N flat, of a step on [N, d]."""
    flat = functions.b.ravel()
    return affine_probe(lambda state: step(state.reshape(functions.b.shape)).ravel(), jnp.zeros_like(flat))[0]


def _mean(functions: Quadratics, models: Array) -> Array:
    return jnp.matmul(functions.p, models, precision="highest")[None]


@double
def meanreg(
    functions: Quadratics, *, lam: Any, learning_rate: Any, steps: Any = None, present: Any = None
) -> Affine:
    """A round of mean regularisation with full batches: local steps on F_k(v) + lam/2 |v - v_bar|^2 from v_k.

    v_bar = sum_k p_k v_k over all clients, as it was before the round. v_k <- v_k - S_k (grad F_k(v_k) +
    lam (v_k - v_bar)), S_k = (I - (I - eta H_k)^tau_k) H_k^-1, H_k = A_k + lam I. The limit is the joint
    minimum, however many steps: v_bar minimises the Moreau envelopes of `envelope(functions, lam)`, and
    v_k = H_k^-1 (b_k + lam v_bar).

    Args:
        functions: the clients'.
        lam: lambda >= 0; 0 is local training.
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.
        present: who takes part, bool [N]; everyone if None. The others' v_k stay, and count in v_bar.

    Returns:
        The map of v_1 .. v_N, flat [N d].

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Evgeniou, Pontil, KDD 2004; Hanzely, Richtarik, arXiv 2002.05516, 2020, equation (2).
    """
    _, here = shares(functions, present)
    lam = number("lam", lam, least=0, remedy="0 is local training")
    done = work(functions.count, learning_rate, steps, mu=lam)
    filters = spectral(functions.A, lambda values: local_filter(values, done))

    def step(v: Array) -> Array:
        pull = times(functions.A, v) - functions.b + lam * (v - _mean(functions, v))
        return jnp.where(here[:, None], v - times(filters, pull), v)

    return _own(functions, step)


@double
def l2gd(
    functions: Quadratics, *, lam: Any, p: Any, learning_rate: Any, steps: Any = None, present: Any = None
) -> Coin:
    """Both rounds of L2GD with full batches, and the one between them that expectations follow.

    Alone, v_k <- v_k - S_k grad F_k(v_k), S_k A_k = I - (I - eta A_k)^tau_k. Together, v_k <- v_bar +
    (1 - c)^tau_k (v_k - v_bar), c = eta lam (1 - p) / p. A coin of all clients' falls together with
    probability p, whatever came before, so that the expectation of the state is carried by the mean of the two
    maps. With one local step that is a gradient step on sum_k p_k (F_k(v_k) + lam/2 |v_k - v_bar|^2), each
    client's part divided by p_k, and ends at its minimum; with more steps it ends there as eta -> 0.

    Args:
        functions: the clients'; equal p_k are the paper's method.
        lam: lambda >= 0.
        p: the probability of a round together, in (0, 1).
        learning_rate: eta > 0, or eta_j of each local step [J].
        steps: >= 0, equal or one for each client [N]; J if None.
        present: who takes part, bool [N]; everyone if None. The others' v_k stay, and count in v_bar.

    Returns:
        The maps of v_1 .. v_N, each flat [N d].

    Raises:
        TypeError, ValueError: a number of the wrong kind, range or shape.

    Reference:
        Hanzely, Richtarik, arXiv 2002.05516, 2020, Algorithm 1.
    """
    _, here = shares(functions, present)
    lam = number("lam", lam, least=0, remedy="0 is local training")
    p = number("p", p, above=0, below=1, remedy="0.2 moves everybody towards the mean once in five rounds")
    done = work(functions.count, learning_rate, steps)
    filters = spectral(functions.A, lambda values: local_filter(values, done))
    # steps towards v_bar are plain steps on a function of curvature lam (1 - p) / p
    pull = jnp.broadcast_to(lam * (1 - p) / p, (functions.count, 1)).astype(functions.b.dtype)
    share = pull * local_filter(pull, done)

    def alone(v: Array) -> Array:
        return jnp.where(here[:, None], v - times(filters, times(functions.A, v) - functions.b), v)

    def together(v: Array) -> Array:
        return jnp.where(here[:, None], v + share * (_mean(functions, v) - v), v)

    one, other = _own(functions, alone), _own(functions, together)
    matrix = (1 - p) * one.matrix + p * other.matrix
    return Coin(one, other, Affine(matrix, (1 - p) * one.offset + p * other.offset))
