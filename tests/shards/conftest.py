"""Shard sets made of arrays, and studies of a few small recordings."""

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from mtkd.config import Modality, Study
from mtkd.errors import MtkdError
from mtkd.shards.build import run
from mtkd.shards.index import write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span
from mtkd.workspace import MANIFEST, Unit

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


SECONDS = 5


def _write_deap(path: Path, seed: int, n_trials: int = 2, **changes: np.ndarray) -> None:
    random = np.random.default_rng(seed)
    data = 10 * random.normal(size=(n_trials, 40, SECONDS * 128))
    data[:, 36] = 2e5 + 100 * data[:, 36]
    labels = random.uniform(1, 9, (n_trials, 4))
    path.write_bytes(pickle.dumps({"data": data, "labels": labels} | changes, 2))


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """Three subjects of two trials; nobody changes them."""
    folder = tmp_path_factory.mktemp("deap")
    for index in (1, 2, 3):
        _write_deap(folder / f"s{index:02d}.dat", index)
    return folder


@pytest.fixture
def study(make_study, raw, tmp_path, in_this_process) -> Callable[..., Study]:
    """A factory of studies of a copy of ``raw`` in ``tmp_path / "raw"``."""
    shutil.copytree(raw, tmp_path / "raw")

    def make(*overrides: str, name: str = "workspace") -> Study:
        given = [f"data.folder={tmp_path / 'raw'}", "data.baseline_s=1", "signals.lead_s=1", *overrides]
        return make_study(*given, workspace=tmp_path / name)

    return make


@pytest.fixture
def in_this_process() -> Iterator[None]:
    """Starting workers takes longer than all that these builds do; ``processes`` has them back."""
    with joblib.parallel_config(backend="sequential"):
        yield


@pytest.fixture
def processes(in_this_process: None) -> Iterator[None]:
    with joblib.parallel_config(backend="loky"):
        yield


@pytest.fixture(scope="session")
def write_deap() -> Callable[..., None]:
    """Writes a small file of DEAP's: ``write_deap(path, seed, n_trials, data=..., labels=...)``."""
    return _write_deap


@pytest.fixture(scope="session")
def contents() -> Callable[[Unit], dict[str, bytes]]:
    """The files of a unit but its manifest."""
    return lambda unit: {path.name: path.read_bytes() for path in unit.folder.iterdir() if path.name != MANIFEST}


@pytest.fixture(scope="session")
def refused() -> Callable[[Study], str]:
    """The sentence of a build that fails, which leaves nothing under its final name."""

    def sentence(made: Study) -> str:
        with pytest.raises(MtkdError) as caught:
            run(made)
        folder = Path(made.workspace) / "shards"
        assert [path for path in folder.glob("*") if not path.name.startswith(".")] == []
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return sentence
