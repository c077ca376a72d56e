"""Compiled layers: all that torch does before it writes programs, for which a C++ compiler takes a minute on a CPU."""

import functools
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch._dynamo.utils import counters

from mtkd.config import Lora, Modality, Temporal, Windows
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.workspace import Unit

MODALITIES: list[Modality] = ["eeg", "emg"]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    counters.clear()
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_say_and_learn_the_same_whatever_the_lengths(
    make_batch: Callable[..., Batch], layouts: Mapping[Modality, Layout], smollm2: Unit, checkpointing: bool
) -> None:
    settings = {"dropout": 0.0, "lora": Lora(dropout=0.0), "activation_checkpointing": checkpointing}
    section = Temporal(modalities=MODALITIES, patch_s=2.0, **settings)
    known = {name: layouts[name] for name in MODALITIES}
    plain, compiled = (TemporalTeacher(section, Windows(window_s=2.0, hop_s=2.0), known, 4, smollm2) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.backbone.compile_layers()
    n_graphs = []
    for n_trials, n_steps in [(2, 3), (3, 3), (1, 5), (4, 7), (2, 8)]:
        batch = make_batch(MODALITIES, n_trials=n_trials, n_steps=n_steps)
        found = []
        for teacher in (plain, compiled):
            teacher.zero_grad()
            logits = teacher(batch).logits
            logits.square().sum().backward()
            found.append([logits, *(each.grad for each in teacher.parameters() if each.grad is not None)])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)
        n_graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < n_graphs[0] < 12  # the layers share them
    assert n_graphs[-1] == n_graphs[-3]  # no length, and no layer, is compiled for itself
