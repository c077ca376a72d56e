"""How fast this machine trains: a few steps of a teacher of the study's shape, whose weights are any."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mtkd.config import Study
from mtkd.shards.batch import Batch
from mtkd.shards.shares import held
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.unpack import outline
from mtkd.teachers.temporal.work import Work, teacher_of
from mtkd.training.fold import FoldData, teacher_objective

_SECONDS = 3.0
_FEW = 1024  # tokens: as many keep the cores of a CPU busy
_ROOM = 2**31  # bytes of weights: of a larger backbone the first layers are measured


@dataclass(frozen=True)
class Rate:
    """Tokens a second that one rank trains; ``told`` says what was measured."""

    tokens_per_second: float
    told: str


def loss_of(study: Study, data: FoldData, batch: Batch, model: nn.Module) -> Tensor:
    """What training minimises, up to its scale."""
    terms = teacher_objective(study, data, study.temporal.confidence_weight)(model, batch).values()
    return torch.stack([term.weight * (term.value.float() * term.mask).sum() for term in terms]).sum()


def measured_rate(
    study: Study, work: Work, n_layers: int, backbone_bytes: int, device: torch.device, folder: Path
) -> Rate:
    """Train for some seconds here, forward and backward, and take a backbone's time to go by its layers.

    Args:
        n_layers: of the whole backbone.
        backbone_bytes: of all its weights.
        folder: where the outline of its first layers is put.
    """
    n_measured = min(n_layers, max(1, n_layers * _ROOM // backbone_bytes))
    model = teacher_of(study, work.data, outline(study, folder, n_measured))
    fill(model.to_empty(device=device))
    if study.temporal.compile:
        model.backbone.compile_layers()
    keys, n_tokens = _few(work, model)
    batch = work.data.cutter.batch(keys).to(device)
    seconds = _step_s(study, work.data, batch, model, device) * n_layers / n_measured
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    layers = f"{n_measured} of {n_layers} layers" if n_measured < n_layers else f"all {n_layers} layers"
    told = f"measured here ({kind}, {study.temporal.dtype}, {layers}, {n_tokens} tokens at once)"
    return Rate(n_tokens / seconds, told)


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give it weights like those of a model at its beginning: numbers that are none would take another time."""
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.02)
    for buffer in model.buffers():
        buffer.fill_(1)


def _few(work: Work, model: TemporalTeacher) -> tuple[list[str], int]:
    """The first trials of the largest micro-batch, as many as have few tokens together, and how many those are."""
    cutter, sizes = work.data.cutter, list[int]()
    for key in work.largest:
        sample = cutter.shards.samples[key]
        own = model.n_tokens(sample, cutter.n_steps(sample))
        if sizes and held([*sizes, own], not work.packed) > _FEW:
            break
        sizes.append(own)
    return work.largest[: len(sizes)], held(sizes, not work.packed)


def _step_s(study: Study, data: FoldData, batch: Batch, model: nn.Module, device: torch.device) -> float:
    """Seconds of a forward and backward pass, the first left out."""
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < _SECONDS:
        started = time.perf_counter()
        loss_of(study, data, batch, model).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return sum(taken[1:]) / len(taken[1:])
