"""Recordings as units of work: what stands is kept, what is missing is made, and what each may be."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.shards import inspect, recordings
from mtkd.shards.build import open_shards, run
from mtkd.shards.index import Sample
from mtkd.signals import readers
from mtkd.signals.recording import Span


def test_a_recording_that_is_changed_while_it_is_read_makes_no_unit(study, monkeypatch, refused):
    """Else what was read of one file would stand under the name of another."""
    made = study()
    first, last = (Path(made.data.folder) / name for name in ("s01.dat", "s03.dat"))

    write = recordings.write_shard

    def change(path: Path, samples: Iterator[Any]) -> list[Sample]:
        if ".s03-" in str(path):
            content = first.read_bytes()
            last.unlink()  # it may be a link to what other tests share
            last.write_bytes(content)
        return write(path, samples)

    monkeypatch.setattr(recordings, "write_shard", change)
    assert refused(made) == f"{last}: was changed while it was read; run it again"
    standing = [path.name[:3] for path in (Path(made.workspace) / "recordings").iterdir() if path.name[0] != "."]
    assert sorted(standing) == ["s01", "s02"]


def test_a_recording_that_is_changed_before_it_is_read_makes_no_unit(study, write_deap):
    made = study()
    folder = Path(made.data.folder)
    (first, *_) = recordings.jobs_of(made, readers.find(folder, made.data).files)
    (folder / "s01.dat").unlink()
    write_deap(folder / "s01.dat", 9)
    with pytest.raises(MtkdError, match=r"s01\.dat: was changed while it was read; run it again$"):
        recordings.build(made, first, None)
    assert not first.unit.folder.exists()


def test_a_change_that_keeps_size_and_time_is_seen_all_the_same(study):
    made = study()
    folder = Path(made.data.folder)
    (first, *_) = recordings.jobs_of(made, readers.find(folder, made.data).files)
    path = folder / "s01.dat"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(MtkdError, match=r"s01\.dat: was changed while it was read; run it again$"):
        recordings.build(made, first, None)


def test_one_recording_of_two_subjects_is_refused(study, refused, tmp_path):
    shutil.copy(tmp_path / "raw" / "s01.dat", tmp_path / "raw" / "s04.dat")
    said = f"{tmp_path}/raw/s04.dat: holds the same as {tmp_path}/raw/s01.dat, which is of another subject"
    assert refused(study()) == said


def test_what_stands_is_not_made_again(study, tmp_path, capsys, refused, write_deap):
    """A recording more, one less, or one that was damaged at first: only what is new is made."""
    whole = (tmp_path / "raw" / "s02.dat").read_bytes()
    (tmp_path / "raw" / "s02.dat").write_bytes(whole[:-100])
    made = study()
    refused(made)
    standing = {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace/recordings").glob("s*/*")}
    assert standing
    (tmp_path / "raw" / "s02.dat").write_bytes(whole)
    capsys.readouterr()
    run(made)
    assert f"reused {len(standing) // 3} recording" in capsys.readouterr().out
    write_deap(tmp_path / "raw" / "s04.dat", 4)
    run(study())
    assert "1 of 1 recording\n" in capsys.readouterr().out
    run(study("data.subjects=[s01, s04]"))
    assert "reused 2 recordings of 2\n" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in standing} == standing


@pytest.fixture
def edf_study(make_study, tmp_path, in_this_process) -> Callable[..., Study]:
    """A factory of studies of three EDF files: one whole, one without ECG, one of a condition without rating."""
    folder = tmp_path / "edf"
    folder.mkdir()
    for seed, (name, labels) in enumerate(
        {"a_1": ("EEG Fz", "ECG"), "b_1": ("EEG Fz",), "b_2": ("EEG Fz", "ECG")}.items()
    ):
        wave = np.random.default_rng(seed).uniform(-50, 50, 6 * 128)
        signals = [edfio.EdfSignal(wave, 128, label=label, physical_dimension="uV") for label in labels]
        edfio.Edf(signals).write(folder / f"{name}.edf")
    given = [
        f"data={{reader: edf, folder: {folder}, channels: {{'EEG *': eeg, ECG: ecg}}, "
        "conditions: {'1': {ratings: {task: 1}}, '2': {stop_s: 4}}}",
        "labels={task: 0.5}",
        "signals.modalities={eeg: {sfreq: 128}, ecg: {sfreq: 64}}",
        "signals.lead_s=0",
        "temporal.modalities=[eeg]",
        "distill.modalities=[ecg]",
    ]
    return lambda *overrides: make_study(*given, *overrides, workspace=tmp_path / "workspace")


def test_a_recording_without_a_modality_is_refused(edf_study, tmp_path, refused):
    sentence = refused(edf_study())
    assert str(tmp_path / "edf" / "b_1.edf") in sentence
    assert "ecg" in sentence


def test_a_recording_without_a_modality_is_taken_where_the_study_says_so(edf_study):
    made = edf_study("data.absent=mask")
    assert run(made).manifest().measured["trials_with"] == {"eeg": 3, "ecg": 2}
    _, shards = open_shards(made)
    assert {key: list(sample.modalities) for key, sample in shards.samples.items()} == {
        "a_1": ["eeg", "ecg"],
        "b_1": ["eeg"],
        "b_2": ["eeg", "ecg"],
    }
    assert {key: sample.duration_s for key, sample in shards.samples.items()} == {"a_1": 6, "b_1": 6, "b_2": 4}
    assert [sample.ratings for sample in shards.index.samples] == [{"task": 1.0}, {"task": 1.0}, {}]


def test_a_modality_that_no_recording_has_is_refused(edf_study, tmp_path, refused):
    more = "signals.modalities={eeg: {sfreq: 128}, ecg: {sfreq: 64}, eda: {sfreq: 16}}"
    sentence = refused(edf_study("data.absent=mask", more))
    assert sentence == f"{tmp_path / 'edf'}: no recording has eda, which signals.modalities asks for"


def test_trials_of_one_name_are_refused_with_both_files(edf_study, tmp_path, refused):
    shutil.copy(tmp_path / "edf" / "a_1.edf", tmp_path / "edf" / "A_1.edf")
    table = tmp_path / "edf" / "trials.csv"
    table.write_text("file,subject,trial,task\na_1.edf,a,same,1\nA_1.edf,a,same,0\n")
    folder = tmp_path / "edf"
    made = edf_study(f"data={{reader: table, folder: {folder}, channels: {{'EEG *': eeg, ECG: ecg}}}}")
    assert refused(made) == f"{folder / 'a_1.edf'}: the trial a_same comes twice, in {folder / 'A_1.edf'} too"


def test_one_recording_under_two_names_of_a_subject_is_refused(edf_study, tmp_path, refused):
    folder = tmp_path / "edf"
    shutil.copy(folder / "a_1.edf", folder / "a_2.edf")
    assert refused(edf_study("data.absent=mask")) == f"{folder / 'a_2.edf'}: holds the same as {folder / 'a_1.edf'}"


def test_a_trial_without_a_sample_is_rejected(edf_study):
    made = edf_study("data.absent=mask", "data.conditions.1.stop_s=0.005")
    measured = run(made).manifest().measured
    assert measured["rejected"] == {
        "a_1": {"1": "0.005 s hold no sample at 64 Hz"},
        "b_1": {"1": "0.005 s hold no sample at 128 Hz"},
    }
    assert measured["n_trials"] == 1


def test_trials_that_share_signals_are_told(edf_study, tmp_path, capsys):
    """Windows that slide may be meant; a table of times that is wrong in one row is not."""
    folder = tmp_path / "edf"
    rows = ["a_1.edf,a,1,0,3,1", "a_1.edf,a,2,3,6,0", "b_1.edf,b,1,0,3,1", "b_1.edf,b,2,2.5,6,0", "b_1.edf,b,3,2,3,0"]
    (folder / "trials.csv").write_text("\n".join(["file,subject,trial,start_s,stop_s,task", *rows, ""]))
    made = edf_study(f"data={{reader: table, folder: {folder}, channels: {{'EEG *': eeg, ECG: ecg}}, absent: mask}}")
    measured = run(made).manifest().measured
    assert measured["overlapping"] == {"b_b_1": ["1 and 3 share 1 s", "1 and 2 share 0.5 s"]}
    assert "b_b_1: the trials 1 and 3 share 1 s (and 1 more)\n" in capsys.readouterr().out
    inspect.run(made)
    assert "overlapping: b_b_1: 1 and 2 share 0.5 s\n" in capsys.readouterr().out


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10)), max_size=8))
def test_overlaps_are_found_if_and_only_if_two_trials_share_time(times):
    spans = [Span(str(index), "", start, start + length) for index, (start, length) in enumerate(times)]
    pairs = itertools.combinations(spans, 2)
    shared = [min(a.stop_s, b.stop_s) - max(a.start_s, b.start_s) for a, b in pairs]
    found = recordings._overlaps(spans)
    assert bool(found) == any(each > recordings._TOUCHING_S for each in shared)
    assert len(found) < max(1, len(spans))


def test_the_same_signals_of_two_subjects_are_refused(edf_study, tmp_path, refused):
    """A copy that another patient's name was written into: one person would stand on two sides of a split."""
    folder = tmp_path / "edf"
    content = bytearray((folder / "a_1.edf").read_bytes())
    content[8:88] = b"X F 02-MAY-1951 Somebody_Else".ljust(80)
    (folder / "c_1.edf").write_bytes(content)
    said = refused(edf_study("data.absent=mask"))
    assert re.fullmatch(r"shards: (eeg|ecg) of c_1 is that of a_1, of another subject; data\.exclude leaves .*", said)
    assert not list((tmp_path / "workspace/shards").glob("*/manifest.json"))


def test_flat_signals_of_two_subjects_are_not(edf_study, tmp_path):
    """Masked throughout they are the same, and nobody's."""
    for name in ("c", "d"):
        random = np.random.default_rng(ord(name)).uniform(-50, 50, 6 * 128)
        waves = {"EEG Fz": random, "ECG": np.zeros(6 * 128)}
        signals = [
            edfio.EdfSignal(wave, 128, label=label, physical_dimension="uV", physical_range=(-60, 60))
            for label, wave in waves.items()
        ]
        edfio.Edf(signals).write(tmp_path / f"edf/{name}_1.edf")
    run(edf_study("data.absent=mask"))
