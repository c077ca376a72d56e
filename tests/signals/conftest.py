"""Recordings made of arrays, without files."""

from collections.abc import Callable

import mne
import numpy as np
import pytest

from mtkd.config import ModalitySignals, Signals
from mtkd.signals.channels import MNE_TYPE
from mtkd.signals.preprocess import Signal, preprocess
from mtkd.signals.recording import Recording, Span

SFREQ = 128.0


def _recording(kinds: dict[str, np.ndarray], spans: list[tuple[float, float]] | None = None, sfreq=SFREQ) -> Recording:
    """A recording of some channels a modality, arrays of (n_chans, n_times)."""
    modality = {f"{kind}{row}": kind for kind, rows in kinds.items() for row in range(len(rows))}
    info = mne.create_info(list(modality), sfreq, [MNE_TYPE[kind] for kind in modality.values()])
    values = np.vstack(list(kinds.values()))
    whole = [(0.0, values.shape[1] / sfreq)]
    named = [Span(f"t{index}", "x", *edges) for index, edges in enumerate(spans or whole)]
    return Recording(mne.io.RawArray(values, info, verbose="error"), "s1", "s1.dat", modality, named)


def _one(rows: np.ndarray, kind: str = "emg", spans=None, sfreq=SFREQ, reference=None, **settings) -> list[Signal]:
    """The trials of a recording of one modality; its rate stays unless ``to`` names another."""
    to, lead_s = settings.pop("to", sfreq), settings.pop("lead_s", 0.0)
    signals = Signals(modalities={kind: ModalitySignals(sfreq=to, **settings)}, reference=reference, lead_s=lead_s)
    return [trial[kind] for _, trial in preprocess(_recording({kind: rows}, spans, sfreq), signals)]


@pytest.fixture(scope="session")
def recording() -> Callable[..., Recording]:
    """The factory of them."""
    return _recording


@pytest.fixture(scope="session")
def one() -> Callable[..., list[Signal]]:
    """The same, preprocessed."""
    return _one
