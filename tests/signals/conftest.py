"""Recordings made of arrays, without files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from mtkd.config import Signals
from mtkd.signals.preprocess import Signal, preprocess
from mtkd.signals.recording import Recording, Span, Stream

SFREQ = 128.0


def _stream(rows: np.ndarray, names: Sequence[str], sfreq: float) -> Stream:
    return Stream(list(names), sfreq, rows.shape[1], lambda start, stop: rows[:, start:stop])


def _recording(
    kinds: dict[str, np.ndarray], spans=None, sfreq: float | dict[str, float] = SFREQ, names=None
) -> Recording:
    """A recording of some channels a modality, arrays of (n_chans, n_times); their rates and names may be given."""
    rates = sfreq if isinstance(sfreq, dict) else dict.fromkeys(kinds, sfreq)
    named = {kind: [f"{kind}{row}" for row in range(len(rows))] for kind, rows in kinds.items()} | (names or {})
    streams = {kind: _stream(rows, named[kind], rates[kind]) for kind, rows in kinds.items()}
    whole = [(0.0, min(stream.n_times / stream.sfreq for stream in streams.values()))]
    return Recording(
        "s1", "s1.dat", streams, [Span(f"t{index}", "x", *edge) for index, edge in enumerate(spans or whole)]
    )


def _one(
    rows: np.ndarray,
    kind: str = "emg",
    spans=None,
    sfreq=SFREQ,
    steps: Sequence[Any] = (),
    band=(None, None),
    reference=None,
    names=None,
    **settings,
) -> list[Signal]:
    """The trials of a recording of one modality; its rate stays unless ``to`` names another.

    ``band`` is a first step, ``reference`` a last one, at the new rate.
    """
    to, lead_s = settings.pop("to", sfreq), settings.pop("lead_s", 0.0)
    first = [{"bandpass": list(band)}] if tuple(band) != (None, None) else []
    last = ["resample", {"reference": reference}] if reference is not None else []
    modality = {"sfreq": to, "steps": [*first, *steps, *last], **settings}
    signals = Signals(modalities={kind: modality}, lead_s=lead_s)
    given = _recording({kind: rows}, spans, sfreq, names and {kind: names})
    return [trial[kind] for _, trial in preprocess(given, signals)]


@pytest.fixture(scope="session")
def recording() -> Callable[..., Recording]:
    """The factory of them."""
    return _recording


@pytest.fixture(scope="session")
def one() -> Callable[..., list[Signal]]:
    """The same, preprocessed."""
    return _one


@pytest.fixture
def bids_root(tmp_path: Path) -> Path:
    """A BIDS root: ten seconds of an electrode of one subject, one trial from 2 s to 9 s."""
    folder, stem = tmp_path / "sub-01" / "eeg", "sub-01_task-x"
    folder.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}))
    noise = np.random.default_rng(0).uniform(1, 40, 640)
    edfio.Edf([edfio.EdfSignal(noise, 64, label="Fz", physical_dimension="uV")]).write(folder / f"{stem}_eeg.edf")
    (folder / f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n2\t7\tfilm\n")
    (folder / f"{stem}_channels.tsv").write_text("name\ttype\tunits\tstatus\nFz\tEEG\tuV\tgood\n")
    return tmp_path
