"""Ratings become classes."""

from mtkd.shards.schema import SampleInfo

UNLABELLED = -1


def class_index(sample: SampleInfo, labels: dict[str, float]) -> int:
    """Bit i is set where the trial's i-th rating lies above its threshold; -1 without all ratings."""
    if any(rating not in sample.ratings for rating in labels):
        return UNLABELLED
    return sum((sample.ratings[rating] > limit) << bit for bit, (rating, limit) in enumerate(labels.items()))
