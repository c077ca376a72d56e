"""``mtkd inspect``: what a shard set holds, as tables, and one of its trials as a picture."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mtkd.config import Modality, Study
from mtkd.console import counted
from mtkd.errors import MtkdError
from mtkd.shards.build import open_shards
from mtkd.shards.picture import draw_trial
from mtkd.shards.read import ShardSet
from mtkd.shards.summary import summary
from mtkd.signals.windows import cut_valid, n_windows

STAGE = "inspect"


def run(study: Study) -> Path:
    """Print the study's shard set and draw ``inspect.trial``, by default its first; return the picture's path.

    Raises:
        MtkdError: the shards do not stand, or have no such trial.
    """
    unit, shards = open_shards(study)
    measured = unit.manifest().measured | summary(study, shards.index.shards)  # by the labels of now
    key = study.inspect.trial or next(iter(shards.samples))
    if key not in shards.samples:
        raise MtkdError(
            f"inspect.trial = {key}: {unit.folder} has no such trial; the first is {next(iter(shards.samples))}"
        )
    console = Console()
    console.print(f"{unit.folder}", soft_wrap=True)
    told = ", ".join((counted(measured["n_subjects"], "subject"), counted(measured["n_trials"], "trial")))
    console.print(f"{told}, {measured['hours']:g} h; {measured['n_unlabelled']} without a label")
    subjects = Counter(sample.subject for sample in shards.index.samples)
    console.print("trials by subject: " + ", ".join(f"{name} {count}" for name, count in sorted(subjects.items())))
    console.print(_modalities(study, shards, measured))
    console.print(_classes(study, measured))
    _print_outcomes(console, measured)
    path = Path(study.workspace) / STAGE / f"{key}.png"
    draw_trial(shards, key, path)
    console.print(f"{key}: {path}", soft_wrap=True)
    return path


def rejected_windows(study: Study, shards: ShardSet) -> dict[Modality, tuple[int, int]]:
    """Of each modality, the windows in which no channel is valid, and all windows of the study."""
    found = dict.fromkeys(study.signals.modalities, 0)
    total = 0
    window_s, hop_s = study.windows.window_s, study.windows.hop_s
    for sample in shards.index.samples:
        n_steps = n_windows(sample.duration_s, window_s, hop_s)
        total += n_steps
        for modality in found:
            if modality not in sample.modalities:
                found[modality] += n_steps
            elif sample.valid[modality] < 1:
                valid = shards.read(sample.key, f"{modality}.valid.npy")
                found[modality] += int((~cut_valid(valid, window_s, hop_s, n_steps).any(axis=1)).sum())
    return {modality: (n_rejected, total) for modality, n_rejected in found.items()}


def _modalities(study: Study, shards: ShardSet, measured: dict[str, Any]) -> Table:
    table = Table("modality", "channels", "Hz", "trials without", "masked", "windows rejected")
    rejected = rejected_windows(study, shards)
    for name, (n_rejected, n_all) in rejected.items():
        own = [sample.modalities[name] for sample in shards.index.samples if name in sample.modalities]
        n_chans = sorted({len(layout.ch_names) for layout in own})
        rates = sorted({layout.sfreq for layout in own})
        table.add_row(
            name,
            " or ".join(map(str, n_chans)),
            " or ".join(f"{rate:g}" for rate in rates),
            f"{measured['n_trials'] - measured['trials_with'][name]} of {measured['n_trials']}",
            f"{1 - np.mean([s.valid[name] for s in shards.index.samples if name in s.valid]):.1%}",
            f"{n_rejected} of {n_all}",
        )
    return table


def _classes(study: Study, measured: dict[str, Any]) -> Table:
    table = Table("class", "share of rated trials")
    for name, share in measured["class_shares"].items():
        table.add_row(name, f"{share:.1%}")
    return table


def _print_outcomes(console: Console, measured: dict[str, Any]) -> None:
    for recording, trials in measured["rejected"].items():
        for trial, reason in trials.items():
            console.print(f"rejected: {recording}, {trial}: {reason}", soft_wrap=True)
    for name, reason in measured["left_out"].items():
        console.print(f"left out: {name}: {reason}", soft_wrap=True)
