"""The one place that shares trials out over ranks and workers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mtkd.errors import MtkdError
from mtkd.files import fingerprint
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.memory import keep_freed_memory
from mtkd.shards.read import Heard
from mtkd.shards.shares import Piece, share_out


class RankShares(Sampler[list[Piece]]):
    """This rank's share of every global batch of an epoch, in pieces of positions in the list of trials.

    The order of the global batches depends on seed and epoch alone, never on the number of ranks or workers. Each
    trial comes once an epoch, and all ranks get equally many pieces; see ``share_out``.

    Args:
        sizes: of the trials, by which ranks are to have equally much; tokens, or 1 each.
        batch_size: trials over all ranks.
        most: what a piece may hold; None makes one of each share.
        padded: whether a piece's trials are padded to its longest, which then counts.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        *,
        seed: int = 0,
        shuffle: bool = False,
        most: int | None = None,
        padded: bool = False,
    ) -> None:
        self.sizes, self.batch_size, self.rank, self.world = sizes, batch_size, rank, world
        self.most, self.padded = most, padded
        self.seed, self.shuffle, self.epoch = seed, shuffle, 0
        self.start = 0  # batches of the epoch that lie behind

    def __len__(self) -> int:
        return -(-len(self.sizes) // self.batch_size)

    def __iter__(self) -> Iterator[list[Piece]]:
        for shares in self.of_all_ranks():
            yield shares[self.rank]

    def of_all_ranks(self) -> Iterator[list[list[Piece]]]:
        """The shares of every rank, global batch by global batch."""
        order = np.arange(len(self.sizes))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        for start in range(self.start * self.batch_size, len(order), self.batch_size):
            whole = order[start : start + self.batch_size].tolist()
            yield share_out(whole, self.sizes, self.world, self.most, self.padded)


class _Pieces(Dataset[Piece]):
    """What the sampler gives, as it is: a whole piece is read at once, by the collate function in the worker."""

    def __getitem__(self, piece: Piece) -> Piece:
        return piece


class Loader:
    """Batches of the given trials for this rank.

    A pass gives one batch after the other; ``shares`` gives those together that belong to one global batch.
    ``state_dict`` tells where it is, in batches over all ranks: another one, on any number of ranks and workers, goes
    on from there without reading what lies behind.
    """

    def __init__(
        self,
        cutter: Cutter,
        keys: list[str],
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        shuffle: bool = False,
        workers: int = 0,
        sizes: Sequence[int] | None = None,
        most: int | None = None,
        padded: bool = False,
    ) -> None:
        keep_freed_memory()
        self.cutter, self.keys = cutter, keys
        self._n_given = 0
        sizes = [1] * len(keys) if sizes is None else sizes
        how: dict[str, Any] = {"seed": seed, "shuffle": shuffle, "most": most, "padded": padded}
        self.sampler = RankShares(sizes, batch_size, rank, world, **how)
        # a generator of its own, or each pass would take a number from those that dropout draws
        generator = torch.Generator()
        self._loader = DataLoader(
            _Pieces(), batch_sampler=self.sampler, collate_fn=self._collate, num_workers=workers, generator=generator
        )

    @property
    def heard(self) -> Heard:
        """Whose trials come, to all ranks."""
        found = Heard()
        for key in self.keys:
            found.note(self.cutter.shards.samples[key])
        return found

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass, which begins at its start."""
        self.sampler.epoch, self.sampler.start, self._n_given = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Seed, order, epoch, and how many batches of it were given."""
        return {**self._order(), "epoch": self.sampler.epoch, "n_batches": self._n_given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader of the same trials was.

        Raises:
            MtkdError: its trials, their order or the size of its batches are others, or it is nowhere in an epoch.
        """
        for key, own in self._order().items():
            if state.get(key) != own:
                raise MtkdError(f"a loader's state has {key} = {state.get(key)}, but this loader {own}")
        epoch, n_batches = state.get("epoch"), state.get("n_batches")
        if not (isinstance(epoch, int) and isinstance(n_batches, int) and epoch >= 0 <= n_batches <= len(self)):
            raise MtkdError(f"a loader's state has epoch = {epoch!r} and n_batches = {n_batches!r} of {len(self)}")
        self.set_epoch(epoch)
        self.sampler.start = self._n_given = n_batches

    def _order(self) -> dict[str, Any]:
        sampler = self.sampler
        order = {"seed": sampler.seed, "shuffle": sampler.shuffle, "batch_size": sampler.batch_size}
        return {**order, "trials": fingerprint(self.keys)}

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def is_through(self) -> bool:
        """Whether all of the epoch was given."""
        return self._n_given == len(self)

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch; a pass that was broken off begins anew."""
        for share in self.shares():
            yield from share

    def shares(self) -> Iterator[list[Batch]]:
        """The same, all batches of this rank's share of a global batch together: as many on every rank."""
        self._n_given = self.sampler.start
        for share in self._loader:
            if isinstance(share, MtkdError):
                raise share
            self._n_given += 1
            yield share
        self.sampler.start = 0

    def _collate(self, share: list[Piece]) -> list[Batch] | MtkdError:
        """What is wrong is returned, since torch would put the stack of a worker that raises into the sentence."""
        try:
            return [self._read(piece) for piece in share]
        except MtkdError as error:
            return error

    def _read(self, piece: Piece) -> Batch:
        filler = sum(position < 0 for position in piece)
        return self.cutter.batch([self.keys[max(position, ~position)] for position in piece], filler)
