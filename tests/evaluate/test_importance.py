"""Montages of 14, 32 and 64 electrodes in one training, and the pictures of what the spatial teacher made of them."""

from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from mtkd.cache.build import Teacher, load_teacher
from mtkd.config import Study
from mtkd.evaluate.importance import electrode_importance
from mtkd.evaluate.scalp import scalp_figure
from mtkd.shards import build
from mtkd.shards.build import open_shards
from mtkd.signals.channels import GENEVA
from mtkd.study import read_study
from mtkd.teachers.spatial import train
from mtkd.training.fold import fold_data, folds_of

HEADSET = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
CAP = mne.channels.make_standard_montage("biosemi64").ch_names
MONTAGES = {"a": HEADSET, "b": GENEVA, "c": GENEVA, "d": HEADSET, "e": CAP, "f": GENEVA}
SECONDS, SFREQ = 30, 128
STUDY = (
    "signals.modalities={eeg: {sfreq: 128, steps: [{bandpass: [1, 45]}]}, ecg: {sfreq: 128, steps: []}}",
    "temporal.modalities=[eeg, ecg]",
    "distill.modalities=[ecg]",
    "spatial={features: learned, conv: TAGConv, conv_options: {K: 2}, width: 4, optim: {epochs: 1}}",
)


@pytest.fixture(scope="module")
def mixed(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of three montages; the cap of 64 is one subject's, whom one fold trains with and the other tests."""
    folder, random = tmp_path_factory.mktemp("montages"), np.random.default_rng(0)
    for subject, names in MONTAGES.items():
        signals = [
            edfio.EdfSignal(20 * random.standard_normal(SECONDS * SFREQ), SFREQ, label=name, physical_dimension="uV")
            for name in [*names, "ECG"]
        ]
        edfio.Edf(signals).write(folder / f"{subject}.edf")
    rows = [f"{subject}.edf,{subject},{start},{start + 12},{start > 10:d}" for subject in MONTAGES for start in (4, 17)]
    (folder / "trials.csv").write_text("\n".join(["file,subject,start_s,stop_s,stress", *rows, ""]))
    given = [f"data.folder={folder}", f"workspace={folder / 'ws'}", "splits.n_folds=2", *STUDY]
    return read_study(repo / "configs/study/table.yaml", given)


@pytest.fixture(scope="module")
def teachers(mixed: Study) -> list[Teacher]:
    build.run(mixed)
    train.run(mixed)
    shards = open_shards(mixed)[1]
    return [load_teacher(mixed, shards, fold, "spatial") for fold in folds_of(mixed)]


def test_montages_of_different_size_are_one_training(mixed: Study, teachers: list[Teacher]) -> None:
    for fold, teacher in zip(folds_of(mixed), teachers, strict=True):
        known = {name for subject in fold.train for name in MONTAGES[subject]}
        assert set(teacher.cutter.layouts["eeg"].ch_names) == known
        for key in fold_data(mixed, fold, ["eeg"], mixed.windows).keys(fold.test):
            batch = teacher.cutter.batch([key])
            there = batch.valid["eeg"][0, 0].tolist()
            names = zip(teacher.cutter.layouts["eeg"].ch_names, there, strict=True)
            assert {name for name, on in names if on} == known & set(MONTAGES[key.split("_")[0]])
            assert teacher.say([key]).mask.all()


def test_importance_is_that_of_electrodes_that_were_there(mixed: Study, teachers: list[Teacher]) -> None:
    folds = folds_of(mixed)
    mean, *each = electrode_importance(mixed, folds)
    assert len(each) == len(folds)
    by_name = []
    for fold, teacher, found in zip(folds, teachers, each, strict=True):
        assert found["ch_names"] == teacher.cutter.layouts["eeg"].ch_names
        tested = {name for subject in fold.test for name in MONTAGES[subject]}
        has_value = dict(zip(found["ch_names"], np.isfinite(found["values"]), strict=True))
        assert has_value == {name: name in tested for name in found["ch_names"]}
        by_name.append(dict(zip(found["ch_names"], found["values"], strict=True)))
    for name, value in zip(mean["ch_names"], mean["values"], strict=True):
        own = [values[name] for values in by_name if np.isfinite(values.get(name, np.nan))]
        assert value == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)
    assert np.array_equal(mean["learned"], mean["learned"].T, equal_nan=True)


def test_pictures_leave_out_whom_no_test_subject_has(mixed: Study, teachers: list[Teacher]) -> None:
    for found, n_silent in zip(electrode_importance(mixed, folds_of(mixed)), (32, 32, 0), strict=True):
        figure, left_out = scalp_figure(found)
        assert figure is not None
        assert left_out == [n for n, v in zip(found["ch_names"], found["values"], strict=True) if np.isnan(v)]
        assert len(left_out) == n_silent
