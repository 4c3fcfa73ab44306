"""The rows that each client's local steps read, taken down from the published rules for keys and order."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import keys


def recorded(plan, federation, key, rounds):
    """Rows of the pool of every batch: [round][client] -> list of int arrays, one a local step."""
    client_of = jax.jit(
        lambda k: federation.data("train", federation.locate("train", jnp.int32(0), k)), static_argnums=()
    )

    @jax.jit
    def batch(plan, data, round_, k, j):
        own = keys.client(keys.stream(keys.round_(key, round_), "client"), k)
        return plan.positions(data, keys.seed(keys.stream(own, "order")), j)

    index = np.asarray(federation.train.index)
    every_round = []
    for t in range(rounds):
        clients = []
        for k in range(federation.num_clients):
            data, steps = client_of(jnp.int32(k)), []
            for j in range(int(plan.steps(data))):
                position, counts = batch(plan, data, jnp.int32(t), jnp.int32(k), jnp.int32(j))
                steps.append(index[int(data.offset) + np.asarray(position)[np.asarray(counts)]])
            clients.append(steps)
        every_round.append(clients)
    return every_round
