"""Checkpoints of a training: whatever ends it, the next start goes on from the last one as if nothing had happened.

Beside the trained weights each holds, rank by rank, the optimizer's state and that of the random numbers, and where in
its epoch the training is. On a CPU, going on gives the same weights to the last digit.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mtkd.digests import digest
from mtkd.errors import MtkdError, one_line
from mtkd.files import read_json, write_json
from mtkd.training.runtime import Runtime

STATE, MANIFEST = "state.json", "manifest.json"
KEPT = 2
"""So many are kept: should the last turn out to be damaged, there is one before."""
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """``shared`` are tensors that all ranks hold alike, by part; ``own`` those of this rank; ``state`` is JSON."""

    shared: dict[str, Tensors]
    own: Tensors
    state: dict[str, Any]


class Checkpoints:
    """The last checkpoints of one training, in a folder that all ranks see.

    Args:
        folder: of this training alone.
        runtime: the ranks, to whose number and configuration of ZeRO a checkpoint belongs.
        every: steps from one to the next; besides, there is one at the end of each epoch. None: only those.
        tell: says what is worth saying, on the first rank.
        of: fingerprint of what is trained; one of anything else is not gone on from.
    """

    def __init__(
        self, folder: Path, runtime: Runtime, every: int | None, tell: Callable[[str], None], of: str = ""
    ) -> None:
        self.folder, self.every, self.of = folder, every, of
        self._runtime, self._tell = runtime, tell
        self._own: list[Path] = []  # that this training went on from or wrote

    def is_due(self, step: int) -> bool:
        """Whether there is to be one after so many steps, wherever in an epoch."""
        return self.every is not None and step % self.every == 0

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all. All ranks take part; that it cannot be written ends no training."""
        place, runtime, first = self.folder / f"step-{step:09d}", self._runtime, self._runtime.rank == 0
        aside = place.with_name(f".{place.name}.partial")
        error = self._try(lambda: self._make(aside)) if first else ""
        runtime.wait()
        error = error or self._try(lambda: self._write(aside, checkpoint))
        failed = bool(runtime.total(torch.tensor([float(bool(error))])).item())
        if first and not failed:
            error = self._try(lambda: self._publish(aside, place))
        if first and (failed or error):
            shutil.rmtree(aside, ignore_errors=True)
            reason = error or "by another rank"
            self._tell(f"the checkpoint of step {step} was not written ({reason}); training goes on without it")
        runtime.wait()

    def latest(self) -> Checkpoint | None:
        """The last one that is whole, None without any. All ranks get the same."""
        chosen = self._runtime.from_first(self._choose() if self._runtime.rank == 0 else None)
        if chosen is None:
            return None
        place = self.folder / chosen
        if self._runtime.rank == 0:
            self._own = [place]
            self._tell(f"going on from {place}")
        shared = {path.stem: safetensors.torch.load_file(path) for path in sorted(place.glob("shared-*.safetensors"))}
        return Checkpoint(
            {name.removeprefix("shared-"): tensors for name, tensors in shared.items()},
            safetensors.torch.load_file(place / f"rank-{self._runtime.rank}.safetensors"),
            read_json(place / STATE),
        )

    def clear(self) -> None:
        """Take them all away, as once the training has ended."""
        if self._runtime.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _make(aside: Path) -> None:
        """An empty folder, whatever a killed run left there."""
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)

    def _write(self, aside: Path, checkpoint: Checkpoint) -> None:
        rank = self._runtime.rank
        files = {f"rank-{rank}": checkpoint.own}
        if rank == 0:
            files |= {f"shared-{name}": tensors for name, tensors in checkpoint.shared.items()}
            write_json(aside / STATE, checkpoint.state | self._needs())
        for name, tensors in files.items():
            safetensors.torch.save_file(tensors, aside / f"{name}.safetensors")

    def _needs(self) -> dict[str, str]:
        """What must be the same where it is gone on from."""
        return {"ranks": self._runtime.kind, "zero_optimization": self._runtime.layout, "of": self.of}

    def _publish(self, aside: Path, place: Path) -> None:
        """The manifest comes last, then the name; then those that are no longer needed go.

        So do those that this training could not go on from, whatever step they are of.
        """
        write_json(aside / MANIFEST, {path.name: digest(path) for path in sorted(aside.iterdir())})
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
        self._own = [*self._own, place][-KEPT:]
        for other in set(self._standing()) - set(self._own):
            shutil.rmtree(other, ignore_errors=True)

    def _standing(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _choose(self) -> str | None:
        """Name of the last one that is whole and of as many ranks with as much on each."""
        for place in reversed(self._standing()):
            reason = self._what_is_wrong(place)
            if reason is None:
                return place.name
            self._tell(f"{place}: {reason}; looking at what was before it")
        if self._standing():
            self._tell(f"beginning anew, as none in {self.folder} can be gone on from")
        return None

    def _what_is_wrong(self, place: Path) -> str | None:
        runtime = self._runtime
        try:
            listed, state = read_json(place / MANIFEST), read_json(place / STATE)
            if state["ranks"] != runtime.kind:
                return f"is of {state['ranks']}, and this is {runtime.kind}"
            if state["of"] != self.of:
                return "is of another training"
            if state["zero_optimization"] != runtime.layout:
                return "is of another zero_optimization in DeepSpeed's configuration"
            needed = [STATE, *(f"rank-{rank}.safetensors" for rank in range(runtime.world))]
            damaged = [name for name in {*listed, *needed} if digest(place / name) != listed.get(name)]
        except (MtkdError, OSError, AttributeError, KeyError, TypeError) as error:
            return one_line(error)
        return f"{min(damaged)} is damaged" if damaged else None

    @staticmethod
    def _try(write: Callable[[], object]) -> str:
        """What went wrong, in words; nothing if nothing did."""
        try:
            write()
        except (OSError, MtkdError, safetensors.SafetensorError) as error:
            return one_line(error)
        return ""
