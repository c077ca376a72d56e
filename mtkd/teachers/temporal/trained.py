"""A trained teacher, ready to answer: its adapters and heads, with the backbone, wherever there is room for that."""

from pathlib import Path

from torch import nn

from mtkd.config import Study
from mtkd.console import say
from mtkd.shards.read import ShardSet
from mtkd.signals.splits import Fold
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.train import STAGE, build_model
from mtkd.teachers.temporal.unpack import layers_of, unpack
from mtkd.teachers.temporal.weights import WEIGHTS as BACKBONE
from mtkd.training.checkpoint import read_weights
from mtkd.training.fold import WEIGHTS
from mtkd.training.placement import DISK, Device, place, unplaced
from mtkd.workspace import Unit

_DECODER = "backbone.model"


def load_model(study: Study, shards: ShardSet, fold: Fold, unit: Unit) -> nn.Module:
    """A trained teacher, in evaluation mode; one that is too large for a GPU over all of them, the host and the disk.

    Raises:
        MtkdError: its files are damaged, or ``cache.max_memory`` names a GPU that is not there.
    """
    unit.manifest()
    model = build_model(study, shards, fold, unplaced)
    given = study.cache.max_memory
    limits: dict[Device, float] = {device: 1e9 * size for device, size in (given or {}).items()}
    lies = fill(model, unpack(study).folder / BACKBONE, unit.folder / WEIGHTS, limits or None)
    if len(lies) > 1 or DISK in lies:
        told = ", ".join(f"{n} on {f'GPU {place}' if isinstance(place, int) else place}" for place, n in lies.items())
        say(STAGE, f"{fold.title}: too large for one device, so its layers lie: {told}")
    return model.eval()


def fill(
    model: TemporalTeacher, backbone: Path, trained: Path, limits: dict[Device, float] | None = None
) -> dict[Device, int]:
    """Give an ``unplaced`` teacher the weights of its unpacked backbone and those that were trained.

    Returns how many layers lie where; ``limits`` as for ``place``.
    """
    layers, _ = layers_of(model.backbone.model, "the teacher")
    stored = {f"{_DECODER}.{name}": (backbone, key) for name, key in model.backbone.stored.items()}
    stored |= {name: (trained, name) for name in read_weights(model, trained)}
    return place(model, _DECODER, layers, stored, limits)
