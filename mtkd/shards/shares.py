"""Who reads which trials of a global batch: equally much on every rank, in equally many pieces that fit its memory."""

from collections.abc import Sequence

Piece = list[int]
"""Positions of trials that are read and computed together; ``~i`` stands for one that only fills up."""


def share_out(
    trials: Sequence[int], sizes: Sequence[int], world: int, most: int | None, padded: bool = False
) -> list[list[Piece]]:
    """The pieces of each rank. ``sizes`` are those of all trials, ``most`` is what a piece may hold of them; where
    trials are ``padded`` to the longest of their piece, their padding too.

    It depends on nothing but its arguments, so every rank knows the shares of all. A trial larger than ``most`` is a
    piece of its own.
    """
    ranks: list[list[int]] = [[] for _ in range(world)]
    loads = [0] * world
    for trial in sorted(trials, key=lambda trial: -sizes[trial]):  # the longest first, each to who has least
        rank = min(range(world), key=lambda rank: (loads[rank], len(ranks[rank])))
        ranks[rank].append(trial)
        loads[rank] += sizes[trial]
    shares = [_pieces(own, sizes, most, padded) for own in ranks]
    n_pieces = max(len(share) for share in shares)
    for share in shares:
        while len(share) < n_pieces:
            share.append(_split_off(share) or [~trials[0]])
    place = {trial: index for index, trial in enumerate(trials)}
    return [[sorted(piece, key=lambda trial: place.get(trial, -1)) for piece in share] for share in shares]


def held(sizes: Sequence[int], padded: bool) -> int:
    """What a piece holds of trials of these sizes."""
    return len(sizes) * max(sizes) if padded else sum(sizes)


def _pieces(own: list[int], sizes: Sequence[int], most: int | None, padded: bool) -> list[Piece]:
    """Trials, the longest first, each in the first piece that has room for it."""
    if most is None:
        return [own] if own else []
    pieces: list[Piece] = []
    left: list[int] = []
    for trial in own:
        # padded, each takes as much as the longest, which came first
        takes = [sizes[piece[0] if padded else trial] for piece in pieces]
        fitting = next((index for index, size in enumerate(takes) if left[index] >= size), None)
        if fitting is None:
            pieces.append([trial])
            left.append(most - sizes[trial])
        else:
            pieces[fitting].append(trial)
            left[fitting] -= takes[fitting]
    return pieces


def _split_off(share: list[Piece]) -> Piece | None:
    """Half of the piece with most trials; None where each has one only."""
    longest = max(share, key=len, default=[])
    if len(longest) < 2:
        return None
    half = longest[1::2]
    longest[:] = longest[::2]
    return half
