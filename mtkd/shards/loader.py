"""The one place that shares trials out over ranks and workers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from mtkd.errors import MtkdError
from mtkd.files import fingerprint
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.memory import keep_freed_memory


class RankBatches(Sampler[list[int]]):
    """This rank's part of every global batch of an epoch, as positions in the list of trials.

    The order of the global batches depends on seed and epoch alone, never on the number of ranks or workers. Each
    trial comes once an epoch and all ranks get equally many batches of equal size: where the last one does not divide,
    a rank repeats a trial as filler, marked by a negative position ``~i``.
    """

    def __init__(self, n_trials: int, batch_size: int, rank: int, world: int, seed: int, shuffle: bool) -> None:
        if batch_size % world:
            raise MtkdError(f"optim.batch_size = {batch_size} trials cannot be shared evenly by {world} ranks")
        self.n_trials, self.batch_size, self.rank, self.world = n_trials, batch_size, rank, world
        self.seed, self.shuffle, self.epoch = seed, shuffle, 0
        self.start = 0  # batches of the epoch that lie behind

    def __len__(self) -> int:
        return -(-self.n_trials // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.n_trials)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        for start in range(self.start * self.batch_size, self.n_trials, self.batch_size):
            whole = order[start : start + self.batch_size]
            per_rank = -(-len(whole) // self.world)
            own = whole[self.rank :: self.world].tolist()
            yield own + [~int(whole[0])] * (per_rank - len(own))


class _Trials(Dataset[int]):
    """Positions only: a whole batch is read at once, by the collate function in the worker."""

    def __init__(self, n_trials: int) -> None:
        self.n_trials = n_trials

    def __len__(self) -> int:
        return self.n_trials

    def __getitem__(self, index: int) -> int:
        return index


class Loader:
    """Batches of the given trials for this rank.

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
    ) -> None:
        keep_freed_memory()
        self.cutter, self.keys = cutter, keys
        self._n_given = 0
        self.sampler = RankBatches(len(keys), batch_size, rank, world, seed, shuffle)
        self._loader = DataLoader(
            _Trials(len(keys)), batch_sampler=self.sampler, collate_fn=self._collate, num_workers=workers
        )

    @property
    def subjects(self) -> set[str]:
        """Whose trials come."""
        return {self.cutter.shards.samples[key].subject for key in self.keys}

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

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch; a pass that was broken off begins anew."""
        self._n_given = self.sampler.start
        for batch in self._loader:
            if isinstance(batch, MtkdError):
                raise batch
            self._n_given += 1
            yield batch
        self.sampler.start = 0

    def _collate(self, positions: list[int]) -> Batch | MtkdError:
        """What is wrong is returned, since torch would put the stack of a worker that raises into the sentence."""
        filler = sum(position < 0 for position in positions)
        keys = [self.keys[position if position >= 0 else ~position] for position in positions]
        try:
            return self.cutter.batch(keys, filler)
        except MtkdError as error:
            return error
