"""What is worth knowing of a shard set before anything is trained on it."""

import itertools
import unicodedata
from collections import Counter
from typing import Any

import numpy as np

from mtkd.config import Modality, Study
from mtkd.console import counted
from mtkd.shards.index import Sample
from mtkd.shards.labels import UNLABELLED, class_index
from mtkd.signals.montage import positions
from mtkd.signals.windows import n_windows

_MOST_NAMES = 6
_FEWEST, _APART = 4, 0.5
"""Of so few trials of a class nothing is said; beyond such a difference of shares, what is missing tells the class."""


def summary(study: Study, shards: dict[str, list[Sample]]) -> dict[str, Any]:
    """Counts, class shares, rates, and how much of each modality is missing or masked."""
    samples = [sample for group in shards.values() for sample in group]
    labels = [class_index(sample, study.labels) for sample in samples]
    known = Counter(label for label in labels if label != UNLABELLED)
    return {
        "n_subjects": len({sample.subject for sample in samples}),
        "n_trials": len(samples),
        "n_unlabelled": labels.count(UNLABELLED),
        "hours": round(sum(sample.duration_s for sample in samples) / 3600, 3),
        "class_shares": {
            name: round(known[index] / max(1, sum(known.values())), 4) for index, name in enumerate(study.class_names)
        },
        "share_high": _share_high(study, samples),
        "trials_with": {
            name: sum(name in sample.modalities for sample in samples) for name in study.signals.modalities
        },
        "valid_share": {
            name: round(float(np.mean([sample.valid.get(name, 0.0) for sample in samples])), 4)
            for name in study.signals.modalities
        },
        "sfreq": {name: study.signals.modalities[name].sfreq for name in study.signals.modalities},
    }


def doubts(study: Study, samples: list[Sample]) -> list[str]:
    """Sentences on what may be a mistake: labels, modalities and windows that leave nothing to learn, and names."""
    found = _of_labels(study, samples)
    for modality in study.signals.modalities:
        own = [sample for sample in samples if modality in sample.modalities]
        if own and not any(sample.valid[modality] for sample in own):
            found.append(f"{modality}: masked throughout, as of no sensor; mtkd inspect draws it, data.units corrects")
        found += _of_names(modality, own) + _of_absence(study, modality, samples)
    steps = [n_windows(sample.duration_s, study.windows.window_s, study.windows.hop_s) for sample in samples]
    if too_short := steps.count(0):
        length_s = study.windows.window_s
        found.append(f"windows: {counted(too_short, 'trial')} of {len(samples)} shorter than one of {length_s:g} s")
    return found + _of_subjects(study, samples, steps)


def _of_subjects(study: Study, samples: list[Sample], steps: list[int]) -> list[str]:
    """Of names that may be one person's, and of who has no window, by the trials' numbers of windows."""
    names, found = sorted({sample.subject for sample in samples}), []
    for _, alike in itertools.groupby(sorted(names, key=_plain), key=_plain):
        if len(own := list(alike)) > 1:
            found.append(
                f"subjects: {_some(own)} hardly differ; one person by two names would be on two sides of a split"
            )
    if without := sorted(set(names) - {each.subject for each, n in zip(samples, steps, strict=True) if n}):
        length_s = study.windows.window_s
        found.append(f"subjects: no trial of {_some(without)} is {length_s:g} s long, so that no model hears of them")
    return found


def _plain(name: str) -> str:
    """What is left of a name without case, width, and what is no letter or digit."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(char for char in folded if char.isalnum())


def _of_names(modality: Modality, samples: list[Sample]) -> list[str]:
    """Of channels that only some trials have: to a model, one sensor by two names is two."""
    having = Counter(name for sample in samples for name in sample.modalities[modality].ch_names)
    found = []
    if modality == "eeg" and (strange := [name for name in having if name.lower() not in positions()]):
        found.append(
            f"eeg: no place on the head is known of {_some(strange)}, which the spatial teacher needs; "
            "data.rename tells it, or data.channels leaves them out"
        )
    if partly := [f"{name} ({count})" for name, count in having.items() if count < len(samples)]:
        found.append(
            f"{modality}: of {len(samples)} trials not all have {_some(partly)}; "
            "where that is one sensor by several names, data.rename gives it one"
        )
    return found


def _of_absence(study: Study, modality: Modality, samples: list[Sample]) -> list[str]:
    """Of what is there in the trials of one class and not in those of another: a model may read the class off that."""
    n_trials: Counter[int] = Counter()
    layouts: Counter[tuple[int, tuple[str, ...]]] = Counter()
    for sample in samples:
        label = class_index(sample, study.labels)
        heard = sample.valid.get(modality, 0.0) > 0
        n_trials[label] += 1
        layouts[label, tuple(sample.modalities[modality].ch_names) if heard else ()] += 1
    labels = [label for label, count in n_trials.items() if label != UNLABELLED and count >= _FEWEST]
    having: dict[str, Counter[int]] = {}
    for (label, names), count in layouts.items():
        for name in dict.fromkeys((modality, *names)) if names else ():
            having.setdefault(name, Counter())[label] += count
    found = []
    for name, counts in having.items():
        shares = {label: counts[label] / n_trials[label] for label in labels}
        most, least = (choose(labels, key=shares.__getitem__, default=0) for choose in (max, min))
        if labels and shares[most] - shares[least] > _APART:
            of = (f"{shares[label]:.0%} of the trials of {study.class_names[label]!r}" for label in (most, least))
            found.append(
                f"{modality}: {name} gives a signal in {' and '.join(of)}, so that its absence tells the class"
            )
            if name == modality:  # and so do all of its channels
                break
    return found[:_MOST_NAMES]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)


def _of_labels(study: Study, samples: list[Sample]) -> list[str]:
    """Of ratings that no trial has, and classes that none is of."""
    ranges: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.ratings.items():
            ranges.setdefault(name, []).append(value)
    known = ", ".join(f"{name} ({min(values):g} to {max(values):g})" for name, values in sorted(ranges.items()))
    unknown = [name for name in study.labels if name not in ranges]
    if unknown:
        hint = "data.ratings names the column of each, and with levels a number for each word"
        return [f"labels: no trial has a rating of {' or '.join(unknown)}; there are {known or f'none; {hint}'}"]
    found = {class_index(sample, study.labels) for sample in samples}
    empty = [name for index, name in enumerate(study.class_names) if index not in found]
    return [f"labels: no trial is of the class {' or '.join(map(repr, empty))}; ratings are {known}"] if empty else []


def _share_high(study: Study, samples: list[Sample]) -> dict[str, float]:
    rated = {
        rating: [sample.ratings[rating] for sample in samples if rating in sample.ratings] for rating in study.labels
    }
    return {
        rating: float(np.mean(np.array(values) > study.labels[rating])) for rating, values in rated.items() if values
    }
