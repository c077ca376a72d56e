"""What is worth knowing of a shard set before anything is trained on it."""

from collections import Counter
from typing import Any

import numpy as np

from mtkd.config import Study
from mtkd.shards.index import Sample
from mtkd.shards.labels import UNLABELLED, class_index


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
    """Sentences on labels that leave nothing to learn: ratings that no trial has, classes that none is of."""
    ranges: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.ratings.items():
            ranges.setdefault(name, []).append(value)
    known = ", ".join(f"{name} ({min(values):g} to {max(values):g})" for name, values in sorted(ranges.items()))
    unknown = [name for name in study.labels if name not in ranges]
    if unknown:
        return [f"labels: no trial has a rating of {' or '.join(unknown)}; there are {known or 'none'}"]
    found = {class_index(sample, study.labels) for sample in samples}
    empty = [name for index, name in enumerate(study.class_names) if index not in found]
    return [f"labels: no trial is of the class {', '.join(empty)}; ratings are {known}"] if empty else []


def _share_high(study: Study, samples: list[Sample]) -> dict[str, float]:
    rated = {
        rating: [sample.ratings[rating] for sample in samples if rating in sample.ratings] for rating in study.labels
    }
    return {
        rating: float(np.mean(np.array(values) > study.labels[rating])) for rating, values in rated.items() if values
    }
