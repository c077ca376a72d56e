"""``mtkd inspect``: what a shard set holds, as tables, and one of its trials as a picture."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtkd.config import Modality, Study
from mtkd.console import counted, shown
from mtkd.errors import MtkdError
from mtkd.shards.build import open_shards
from mtkd.shards.magnitudes import Magnitude, magnitude
from mtkd.shards.picture import draw_trial
from mtkd.shards.read import ShardSet
from mtkd.shards.summary import doubts, summary
from mtkd.signals.windows import cut_valid, n_windows
from mtkd.workspace import Unit

STAGE = "inspect"
_PLAIN: dict[str, Any] = {"soft_wrap": True, "markup": False, "highlight": False}


class Outcomes(BaseModel):
    """What a set's manifest tells by recording: trials and files that are not in it, and trials that share signals."""

    rejected: dict[str, dict[str, str]]
    left_out: dict[str, str]
    overlapping: dict[str, list[str]] = {}


def run(study: Study) -> Path:
    """Print the study's shard set and draw ``inspect.trial``, by default its first; return the picture's path.

    Raises:
        MtkdError: the shards do not stand, or have no such trial.
    """
    unit, shards = open_shards(study)
    measured = summary(study, shards.index.shards)  # by the labels of now
    key = study.inspect.trial or next(iter(shards.samples))
    if key not in shards.samples:
        raise MtkdError(
            f"inspect.trial = {key}: {unit.folder} has no such trial; the first is {next(iter(shards.samples))}"
        )
    console = Console()
    console.print(f"{unit.folder}", **_PLAIN)
    told = ", ".join((counted(measured["n_subjects"], "subject"), counted(measured["n_trials"], "trial")))
    console.print(f"{told}, {measured['hours']:g} h; {measured['n_unlabelled']} without a label")
    subjects = Counter(sample.subject for sample in shards.index.samples)
    each = ", ".join(f"{name} {count}" for name, count in sorted(subjects.items()))
    console.print(f"trials by subject: {each}", **_PLAIN)
    console.print(_modalities(study, shards, measured))
    sizes = [size for name in study.signals.modalities if (size := magnitude(shards, name)) is not None]
    console.print(_sizes(sizes))
    for size in sizes:
        if size.doubt is not None:
            console.print(size.doubt, **_PLAIN)
    console.print(_ratings(shards))
    console.print(_classes(study, measured))
    for sentence in doubts(study, shards.index.samples):
        console.print(sentence, **_PLAIN)
    _print_outcomes(console, unit)
    path = Path(study.workspace) / STAGE / f"{key}.png"
    draw_trial(shards, key, path)
    keys = list(shards.samples)
    console.print(f"trials from {keys[0]} to {keys[-1]}; inspect.trial draws another than {key}:", **_PLAIN)
    console.print(f"{path}", **_PLAIN)
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


def _sizes(sizes: list[Magnitude]) -> Table:
    table = Table("values of", "median", "1st percentile", "99th", "unit")
    for size in sizes:
        table.add_row(size.modality, *size.in_words)
    return table


def _ratings(shards: ShardSet) -> Table:
    table = Table("rating", "trials", "from", "median", "to")
    for name in sorted({name for sample in shards.index.samples for name in sample.ratings}):
        values = [sample.ratings[name] for sample in shards.index.samples if name in sample.ratings]
        spread = (f"{value:.4g}" for value in (min(values), float(np.median(values)), max(values)))
        table.add_row(escape(name), str(len(values)), *spread)
    return table


def _classes(study: Study, measured: dict[str, Any]) -> Table:
    table = Table("class", "share of rated trials")
    for name, share in measured["class_shares"].items():
        table.add_row(escape(name), f"{share:.1%}")
    return table


def _print_outcomes(console: Console, unit: Unit) -> None:
    try:
        found = Outcomes.model_validate(unit.manifest().measured)
    except ValidationError:
        raise MtkdError(f"{unit.folder}: its manifest does not tell what was rejected and left out") from None
    for recording, trials in found.rejected.items():
        for trial, reason in trials.items():
            console.print(shown(f"rejected: {recording}, {trial}: {reason}"), **_PLAIN)
    for recording, pairs in found.overlapping.items():
        for pair in pairs:
            console.print(shown(f"overlapping: {recording}: {pair}"), **_PLAIN)
    for name, reason in found.left_out.items():
        console.print(shown(f"left out: {name}: {reason}"), **_PLAIN)
