"""Hard parameter sharing: a common trunk, and one head for each task, which its clients share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.analysis.oracles.affine import Affine, affine_probe
from fedjax_het.analysis.oracles.averages import shares
from fedjax_het.analysis.oracles.double import double
from fedjax_het.analysis.oracles.functions import Quadratics
from fedjax_het.analysis.oracles.joint import Joint
from fedjax_het.analysis.oracles.partial import partial
from fedjax_het.check import positive_ints, require, short

__all__ = ["hard_sharing"]


@double
def hard_sharing(
    functions: Quadratics,
    *,
    personal: Sequence[int],
    tasks: Sequence[int],
    learning_rate: Any,
    steps: Any = None,
    server_learning_rate: Any = 1.0,
    present: Any = None,
) -> Affine:
    """A round of FedMTL with full batches, of a trunk u and one head v_t for each task t.

    (u_k, v_k) <- local steps on F_k from (u, v_t), t the task of client k, as in `partial`. Then
    u <- u + eta_g sum_k omega_k (u_k - u), and v_t becomes the mean of v_k over its clients that take part,
    weighted by omega; without any it stays. With one task for all and eta_g = 1 it is FedAvg, with one task a
    client `partial`.

    Args:
        functions: the clients'.
        personal: the coordinates of a head, see `partial`.
        tasks: the task of each client, whole numbers from 0 [N]; static, since they fix a shape.
        learning_rate: as in `partial`.
        steps: as in `partial`.
        server_learning_rate: eta_g > 0, of the trunk.
        present: who takes part, bool [N]; everyone if None.

    Returns:
        The map of (u, v_0 .. v_{K-1}), flat [s + K q] for q coordinates of a head and s = d - q of the trunk.

    Raises:
        TypeError, ValueError: as in `partial`; tasks that are not one whole number for each client.

    Reference:
        Caruana, Machine Learning 28, 1997, section 2, with federated averaging of what is shared.
    """
    listed = np.asarray(positive_ints("tasks", tasks, least=0, remedy="they are numbers of tasks"), int)
    require(
        listed.shape == (functions.count,),
        f"tasks must be one number for each of {functions.count} clients, got {short(tasks)}: list them all",
    )
    count = int(listed.max()) + 1
    omega, here = shares(functions, present)
    own = partial(
        functions,
        personal=personal,
        learning_rate=learning_rate,
        steps=steps,
        server_learning_rate=server_learning_rate,
        present=present,
    )
    size = len(personal)
    share = jax.nn.one_hot(listed, count, axis=0, dtype=omega.dtype) * omega[None]
    total = jnp.sum(share, axis=1, keepdims=True)
    share = share / jnp.where(total > 0, total, 1)

    def step(state: Joint) -> Joint:
        point, heads = state
        after = own(jnp.concatenate([point, heads[listed].ravel()]))
        apart = after[len(point) :].reshape(functions.count, size) - heads[listed]
        moved = jnp.where(here[:, None], apart, 0)  # who is absent may well diverge
        return Joint(after[: len(point)], heads + jnp.matmul(share, moved, precision="highest"))

    trunk = jnp.zeros_like(functions.b[0, : functions.dimension - size])
    return affine_probe(step, Joint(trunk, jnp.zeros((count, size), functions.b.dtype)))[0]
