"""What a fold is trained on: the channels and modalities of its training subjects."""

from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest

from mtkd.config import Study, Windows
from mtkd.errors import MtkdError
from mtkd.shards import build
from mtkd.training.fold import fold_data, folds_of

SFREQ = 64


def write(path: Path, ch_names: list[str], seed: int, flat: tuple[str, ...] = ()) -> None:
    random = np.random.default_rng(seed)
    signals = [
        edfio.EdfSignal(
            50 * random.normal(size=10 * SFREQ) * (name not in flat),
            SFREQ,
            label=name,
            physical_dimension="uV",
            physical_range=(-400, 400),
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
        for condition in (1, 2):
            write(tmp_path / f"raw/{index:02d}_{condition}.edf", ["EEG F3", "EEG Cz", *extra], 10 * index + condition)
    made = make_study(
        f"data={{reader: edf, folder: {tmp_path / 'raw'}, absent: mask, channels: {{EEG *: eeg, ECG *: ecg}}, "
        "conditions: {'1': {ratings: {valence: 1, arousal: 1}}, '2': {ratings: {valence: 9, arousal: 9}}}}",
        "signals={lead_s: 1.0, modalities: {eeg: {sfreq: 64, steps: [{bandpass: [1, 20]}]}, ecg: {sfreq: 64}}}",
        "signals.modalities.ecg.steps=[{bandpass: [1, 20]}]",
        "data.conditions.1.start_s=1.0",
        "data.conditions.2.start_s=1.0",
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
    with pytest.raises(
        MtkdError, match=f"^fold {without.index}: no training subject has a signal of ecg, so a model that "
    ):
        fold_data(study, without, ["eeg", "ecg"], study.windows)  # though it has the other
    (with_it, *_) = [fold for fold in folds_of(study) if "03" in fold.train]
    assert list(fold_data(study, with_it, ["ecg"], study.windows).cutter.layouts) == ["ecg"]


def test_labels_that_tell_nothing_apart_are_refused_by_the_first_stage(study: Study) -> None:
    low = study.model_copy(update={"labels": {"valence": 0.5}, "classes": None})
    with pytest.raises(MtkdError, match=r"^labels: every rated trial is 'high valence' with labels = {valence: 0\.5}$"):
        folds_of(low)


def test_classes_weigh_by_their_windows(study: Study) -> None:
    """As a loss does, which averages windows, whatever the steps: longer trials make a class count no more."""
    steps = Windows(window_s=0.5, hop_s=0.5)
    study = study.model_copy(update={"windows": Windows(window_s=4, hop_s=2)})
    data = fold_data(study, folds_of(study)[0], ["eeg"], steps)
    samples = data.cutter.shards.samples
    longer = {
        key: sample.model_copy(update={"duration_s": 4.0 if key.endswith("_1") else 8.0})
        for key, sample in samples.items()
    }
    data.cutter.shards.samples.update(longer)
    try:
        weights = data.class_weights(study).tolist()
    finally:
        data.cutter.shards.samples.update(samples)
    assert weights == pytest.approx([2.0, 0, 0, 2 / 3])  # a window of each shorter trial, three of each longer


def test_a_modality_that_gave_no_training_subject_a_signal_is_named(study: Study, tmp_path: Path) -> None:
    """A sensor that lay on the table is as good as none, though it has a channel."""
    for index in (1, 2, 4):
        for condition in (1, 2):
            path = tmp_path / f"raw/{index:02d}_{condition}.edf"
            write(path, ["EEG F3", "EEG Cz", "ECG ECG"], 10 * index + condition, flat=("ECG ECG",))
    build.run(study)
    (without,) = [fold for fold in folds_of(study) if "03" in fold.test]
    with pytest.raises(MtkdError, match=f"^fold {without.index}: no training subject has a signal of ecg, "):
        fold_data(study, without, ["ecg"], study.windows)
