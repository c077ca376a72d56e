"""Shard sets made of arrays, without recordings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtkd.config import Modality
from mtkd.shards.index import write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span

Trial = tuple[str, Span, dict[Modality, Signal]]


def trial(
    name: str,
    seconds: float = 6.0,
    rates: dict[Modality, float] | None = None,
    ch_names: dict[Modality, list[str]] | None = None,
    subject: str = "s01",
    ratings: dict[str, float] | None = None,
    seed: int = 0,
) -> Trial:
    """A trial of random numbers, by default two channels of EEG at 16 Hz and one of EDA at 4 Hz."""
    random = np.random.default_rng([seed, *name.encode()])
    signals = {}
    for modality, rate in (rates or {"eeg": 16.0, "eda": 4.0}).items():
        names = (ch_names or {}).get(modality) or (["F3", "F4"] if modality == "eeg" else [modality.upper()])
        n_times, n_secs = round(seconds * rate), int(np.ceil(seconds - 1e-9))
        data = random.normal(size=(len(names), n_times)).astype(np.float32)
        signals[modality] = Signal(data, np.ones((len(names), n_secs), bool), rate, names)
    return subject, Span(name, f"video-{name}", 0.0, seconds, ratings or {}), signals


def write_set(folder: Path, shards: dict[str, list[Trial]]) -> ShardSet:
    """Write tars of trials and their index, and open them."""
    folder.mkdir(parents=True, exist_ok=True)
    index = {name: write_shard(folder / name, (encode(*each) for each in trials)) for name, trials in shards.items()}
    write_index(folder, index)
    return ShardSet(folder)


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., Trial]:
    return trial


@pytest.fixture(scope="session")
def make_set() -> Callable[..., ShardSet]:
    return write_set
