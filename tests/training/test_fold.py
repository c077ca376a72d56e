"""What a fold is trained on: the channels and modalities of its training subjects."""

from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.shards import build
from mtkd.training.fold import fold_data, folds_of

SFREQ = 64


def write(path: Path, ch_names: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    signals = [
        edfio.EdfSignal(
            50 * random.normal(size=10 * SFREQ), SFREQ, label=name, physical_dimension="uV", physical_range=(-400, 400)
        )
        for name in ch_names
    ]
    edfio.Edf(signals).write(path)


@pytest.fixture
def study(make_study: Callable[..., Study], tmp_path: Path) -> Study:
    """Four subjects, of whom one has another electrode and one alone an ECG."""
    (tmp_path / "raw").mkdir()
    for index in range(1, 5):
        extra = {2: ["EEG Fpz"], 3: ["ECG ECG"]}.get(index, [])
        write(tmp_path / f"raw/{index:02d}_1.edf", ["EEG F3", "EEG Cz", *extra], index)
    made = make_study(
        f"data={{reader: edf, folder: {tmp_path / 'raw'}, absent: mask, channels: {{EEG *: eeg, ECG *: ecg}}, "
        "conditions: {'1': {ratings: {valence: 1, arousal: 1}}}}",
        "signals={lead_s: 1.0, modalities: {eeg: {sfreq: 64, band: [1, 20]}, ecg: {sfreq: 64, band: [1, 20]}}}",
        "data.conditions.1.start_s=1.0",
        "spatial.bands=[[1, 4], [4, 16]]",
        "windows={window_s: 2, hop_s: 2}",
        "temporal.patch_s=2",
        "temporal.modalities=[eeg]",
        "distill.modalities=[ecg]",
        "splits.n_folds=4",
        workspace=tmp_path / "ws",
    )
    build.run(made)
    return made


def test_a_channel_that_only_others_have_reaches_no_model(study: Study) -> None:
    seen = set()
    for fold in folds_of(study):
        data = fold_data(study, fold, ["eeg"], study.windows)
        knows = "Fpz" in data.cutter.layouts["eeg"].ch_names
        assert knows == ("02" in fold.train)
        batch = data.cutter.batch(["02_1", "01_1"])
        assert batch.signals["eeg"].shape[2] == (3 if knows else 2)
        assert batch.valid["eeg"][0].all()
        seen.add(knows)
    assert seen == {True, False}


def test_a_modality_that_no_training_subject_has_is_named(study: Study) -> None:
    (without,) = [fold for fold in folds_of(study) if "03" in fold.test]
    with pytest.raises(MtkdError, match=f"^fold {without.index}: no training subject has ecg$"):
        fold_data(study, without, ["ecg"], study.windows)
    (with_it, *_) = [fold for fold in folds_of(study) if "03" in fold.train]
    assert list(fold_data(study, with_it, ["ecg"], study.windows).cutter.layouts) == ["ecg"]
