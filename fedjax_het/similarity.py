"""Similarity of clients: cosines of their updates, random projections of them, cuts of their graph in two."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_het.permutation import scramble
from fedjax_het.typing import Array, PyTree

__all__ = ["LINKAGES", "complete_cut", "cosines", "cut", "distortion", "flatten", "project"]


def flatten(tree: PyTree) -> Array:
    """All leaves one after the other, in the default float type, [d]."""
    real = jnp.result_type(float)
    leaves = [leaf.reshape(-1).astype(real) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros((0,), real)


COLUMNS = 2048
"""Columns of a matrix product of `cosines`: so many of 1,000 rows stay in a processor's cache."""


def cosines(updates: Array) -> Array:
    """A_ij = <u_i, u_j> / (|u_i| |u_j|), all of them by one matrix product, a block of columns at a time.

    The product is of full precision on every device: rounded factors would decide close cuts.

    Args:
        updates: one a row, float [N, d].

    Returns:
        Float [N, N], in [-1, 1]; a row of zeros has similarity 0 to every row, itself included.
    """
    size = updates.shape[1]

    def product(block: Array) -> Array:
        return jnp.dot(block, block.T, precision=jax.lax.Precision.HIGHEST)

    def add(i: Array, total: Array) -> Array:
        return total + product(jax.lax.dynamic_slice_in_dim(updates, i * COLUMNS, COLUMNS, axis=1))

    whole, rest = divmod(size, COLUMNS)
    products = product(updates[:, size - rest :])
    if whole:
        products = jax.lax.fori_loop(0, whole, add, products)
    length = jnp.sqrt(jnp.diagonal(products))
    safe = jnp.where(length > 0, length, 1)
    return jnp.clip(products / safe[:, None] / safe[None, :], -1, 1)


def project(vector: Array, size: int, seed: Array) -> Array:
    """A random projection of a long vector, which keeps inner products in the mean.

    The vector is cut into blocks of `size`; each entry gets a random sign, each block is turned round by a
    random number of places, and the blocks are added. Two entries meet with probability at most 1/size, hence
    E<Sx, Sy> = <x, y> and Var<Sx, Sy> <= (|x|^2 |y|^2 + <x, y>^2) / size: a cosine has a standard error of at
    most sqrt(2 / size). No matrix is stored, and the work is one pass over the vector.

    Args:
        vector: float [d].
        size: numbers kept.
        seed: of the projection, uint32 [2], see `keys.seed`; vectors to be compared need the same one.

    Returns:
        Float [size]; the vector itself where d <= size.

    Reference:
        Charikar, Chen, Farach-Colton, ICALP 2002; Weinberger, Dasgupta, Langford, Smola, Attenberg, ICML 2009
        (hashing with random signs).

    Departures:
        Places come from rotations of blocks, not from a hash of every entry: gathers are faster than scatters.
    """
    d = vector.shape[0]
    if d <= size:
        return vector
    blocks = -(-d // size)
    block, place = jnp.divmod(jnp.arange(blocks * size, dtype=jnp.int32), jnp.int32(size))
    turned = scramble(scramble(block.astype(jnp.uint32) + seed[0]) ^ seed[1]) % jnp.uint32(size)
    source = block * size + (place + turned.astype(jnp.int32)) % size
    coin = scramble(scramble(source.astype(jnp.uint32) ^ seed[0]) + seed[1]) >> 31
    entries = vector.at[source].get(mode="fill", fill_value=0)
    return jnp.where(coin == 1, entries, -entries).reshape(blocks, size).sum(axis=0)


def distortion(updates: Array, projected: Array) -> Array:
    """The largest change of a cosine through a projection, scalar.

    Args:
        updates: one a row, float [N, d].
        projected: the same rows after `project`, float [N, size].
    """
    return jnp.max(jnp.abs(cosines(updates) - cosines(projected)))


def cut(similarity: Array, member: Array) -> tuple[Array, Array]:
    """The best cut in two: argmin over cuts of the largest similarity across it; exact.

    Single linkage, or Kruskal's algorithm stopped at two parts. A largest spanning tree is grown from the first
    member; what had been reached before its weakest edge was taken is one part, for all edges that leave it
    are at most as strong, and all that came later at least. N steps of N operations.

    Args:
        similarity: float [N, N], symmetric.
        member: whom to divide, bool [N].

    Returns:
        (the smaller part bool [N], the largest similarity across, scalar). Of equal parts it is the one without
        the first member. With fewer than two members the part is empty and the similarity -inf.

    Reference:
        Sattler, Mueller, Samek, IEEE TNNLS 2021 (arXiv 1910.01991): the optimal bipartition.
    """
    members = jnp.sum(member, dtype=jnp.int32)
    first = jnp.argmax(member)

    def grow(_: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        inside, reach, weakest, part = carry
        best = jnp.argmax(jnp.where(member & ~inside, reach, -jnp.inf))
        part = jnp.where(reach[best] < weakest, inside, part)
        weakest = jnp.minimum(reach[best], weakest)
        return inside.at[best].set(True), jnp.maximum(reach, similarity[best]), weakest, part

    inside = member & (jnp.arange(member.shape[0]) == first)
    start = (inside, similarity[first], jnp.asarray(jnp.inf, similarity.dtype), jnp.zeros_like(member))
    _, _, weakest, part = jax.lax.fori_loop(1, members, grow, start)
    return _smaller(part, member), jnp.where(members > 1, weakest, -jnp.inf)


def complete_cut(similarity: Array, member: Array) -> tuple[Array, Array]:
    """The cut by complete linkage: parts are merged by their smallest similarity until two are left.

    It makes parts alike inside, and is often not the best cut in the sense of `cut`. N steps of N^2 operations.

    Args:
        similarity: float [N, N], symmetric.
        member: whom to divide, bool [N].

    Returns:
        As `cut`.
    """
    count = member.shape[0]
    members = jnp.sum(member, dtype=jnp.int32)
    apart = ~jnp.eye(count, dtype=bool)
    pairs = member[:, None] & member[None, :] & apart

    def merge(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        linkage, part = carry
        nearest = jnp.argmax(linkage)
        i, j = nearest // count, nearest % count
        row = jnp.minimum(linkage[i], linkage[j])
        linkage = linkage.at[i].set(row).at[:, i].set(row)
        linkage = linkage.at[j].set(-jnp.inf).at[:, j].set(-jnp.inf)
        return linkage, jnp.where(part == part[j], part[i], part)

    start = (jnp.where(pairs, similarity, -jnp.inf), jnp.arange(count, dtype=jnp.int32))
    _, part = jax.lax.fori_loop(0, members - 2, merge, start)
    part = member & (part == part[jnp.argmax(member)])
    across = pairs & (part[:, None] != part[None, :])
    return _smaller(part, member), jnp.max(jnp.where(across, similarity, -jnp.inf))


def _smaller(part: Array, member: Array) -> Array:
    """The smaller of a part, which holds the first member, and the rest; the rest if they are equal."""
    rest = member & ~part
    return jnp.where(jnp.sum(part, dtype=jnp.int32) < jnp.sum(rest, dtype=jnp.int32), part, rest)


LINKAGES = {"single": cut, "complete": complete_cut}
"""The cuts by the name of their linkage."""
