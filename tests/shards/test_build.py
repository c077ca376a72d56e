"""The stage ``shards``: what it builds from a folder of recordings, when it builds again, and what it refuses."""

import os
import pickle
import shutil
from pathlib import Path

import edfio
import numpy as np
import pytest

from mtkd import workspace
from mtkd.digests import digest_of_all
from mtkd.errors import MtkdError
from mtkd.shards import build
from mtkd.shards.build import open_shards, run, unit_of
from mtkd.shards.index import NAME
from mtkd.shards.recordings import Job
from mtkd.signals.readers.companions import all_of
from mtkd.signals.recording import File
from mtkd.workspace import MANIFEST, make_unit

SECONDS = 5


def test_a_tar_a_recording_and_a_sample_a_trial(study, contents):
    made = study()
    unit = run(made)
    assert set(contents(unit)) == {"s01.tar", "s02.tar", "s03.tar", NAME}
    _, shards = open_shards(made)
    assert list(shards.samples) == [f"s{subject:02d}_t{trial:02d}" for subject in (1, 2, 3) for trial in (1, 2)]
    for sample in shards.index.samples:
        assert list(sample.modalities) == list(made.signals.modalities)
        assert sample.duration_s == SECONDS - 1
        assert set(sample.ratings) == {"valence", "arousal", "dominance", "liking"}
        for modality, settings in made.signals.modalities.items():
            array = shards.read(sample.key, f"{modality}.npy")
            assert array.dtype == np.float32
            assert array.shape[1] == (SECONDS - 1) * settings.sfreq
            assert np.isfinite(array).all()
            assert shards.read(sample.key, f"{modality}.valid.npy").shape == (len(array), SECONDS - 1)


def test_signals_arrive_in_si_units(study):
    made = study("signals.modalities={eeg: {sfreq: 128}, eda: {sfreq: 128}}",
                 "temporal.modalities=[eeg]", "distill.modalities=[eda]")  # fmt: skip
    run(made)
    _, shards = open_shards(made)
    original = pickle.loads((Path(made.data.folder) / "s02.dat").read_bytes())["data"][1, :, 128:]
    np.testing.assert_allclose(shards.read("s02_t02", "eeg.npy"), original[:32] * 1e-6, rtol=1e-5)
    np.testing.assert_allclose(shards.read("s02_t02", "eda.npy")[0], 1 / original[36], rtol=1e-5)


def test_a_second_run_builds_nothing(study, capsys):
    made = study()
    unit = run(made)
    before = (unit.folder / MANIFEST).stat().st_mtime_ns
    workspace._check.cache_clear()
    capsys.readouterr()
    assert run(made) == unit
    assert (unit.folder / MANIFEST).stat().st_mtime_ns == before
    assert "reused" in capsys.readouterr().out
    assert [path.name for path in unit.folder.parent.iterdir()] == [unit.folder.name]


def test_two_workspaces_get_the_same_bytes(study, request, contents):
    one = run(study(name="one"))
    request.getfixturevalue("processes")
    other = run(study(name="other"))
    assert one.folder != other.folder
    assert one.folder.name == other.folder.name
    assert contents(one) == contents(other)
    assert one.manifest().digest == other.manifest().digest


def test_the_fingerprint_follows_the_recordings(study, tmp_path, write_deap):
    made = study()
    path = tmp_path / "raw" / "s02.dat"
    before = unit_of(made).fingerprint
    os.utime(path)  # a newer date alone is no change
    assert unit_of(made).fingerprint == before
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    assert unit_of(made).fingerprint != before
    path.write_bytes(whole)
    assert unit_of(made).fingerprint == before
    write_deap(tmp_path / "raw" / "s04.dat", 4)
    assert unit_of(made).fingerprint != before


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("signals.modalities.emg.sfreq=64", True),
        ("signals.modalities.eeg.steps=[{bandpass: [2, 45]}]", True),
        ("signals.modalities.eeg.phase=zero", True),
        ("data.baseline_s=2", True),
        ("data.channels={Plet: ignore}", True),
        ("data.rename={Plet: ppg}", True),
        ("data.units={GSR: uS}", True),
        ("data.bipolar={C: [A, B]}", True),
        ("data.subjects=[s01, s02]", True),
        ("data.exclude=[s03]", True),
        ("shards={engine: ray, n_jobs: 2}", False),
        ("labels.valence=3", False),
        ("windows={window_s: 2, hop_s: 2}", False),
        ("distill.optim.lr=0.1", False),
        ("seed=3", False),
        ("name=other", False),
        ("data.simulate.n_subjects=9", False),
    ],
)
def test_the_fingerprint_follows_what_shards_are_made_of_and_nothing_else(study, override, changes):
    more = ["temporal.patch_s=1"] if override.startswith("windows") else []
    assert (unit_of(study(override, *more)).fingerprint != unit_of(study()).fingerprint) == changes


def test_where_the_recordings_lie_does_not_matter(study, tmp_path):
    before = unit_of(study()).fingerprint
    shutil.move(tmp_path / "raw", tmp_path / "elsewhere")
    assert unit_of(study(f"data.folder={tmp_path / 'elsewhere'}")).fingerprint == before


def test_trials_without_ratings_are_kept(study, tmp_path, write_deap):
    labels = np.full((2, 4), 7.0)
    labels[0] = np.nan
    labels[1, 1] = np.nan
    write_deap(tmp_path / "raw" / "s02.dat", 2, labels=labels)
    made = study()
    measured = run(made).manifest().measured
    _, shards = open_shards(made)
    assert measured["n_trials"] == len(shards.samples) == 6
    assert measured["data"]["reader"] == "deap"
    assert "folder" not in measured["data"]  # of no use elsewhere
    assert shards.samples["s02_t01"].ratings == {}
    assert shards.samples["s02_t02"].ratings == {"valence": 7.0, "dominance": 7.0, "liking": 7.0}
    rated = [s.ratings["valence"] for s in shards.index.samples if "valence" in s.ratings]
    assert len(rated) == 5
    assert measured["share_high"]["valence"] == pytest.approx(np.mean(np.array(rated) > 5))


def test_only_the_subjects_asked_for_are_built(study, contents):
    made = study("data.subjects=[s03, s01]")
    assert set(contents(run(made))) == {"s01.tar", "s03.tar", NAME}
    assert open_shards(made)[1].index.subjects == ["s01", "s03"]


def test_a_subject_without_a_file_is_refused_by_its_name(study, refused):
    assert "the subject s09" in refused(study("data.subjects=[s01, s09]"))


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"")])
def test_a_folder_without_recordings_is_refused_by_its_name(study, tmp_path, make, refused):
    make(tmp_path / "none")
    assert str(tmp_path / "none") in refused(study(f"data.folder={tmp_path / 'none'}"))


@pytest.mark.parametrize("name", ["s01.dat", "s02.dat", "s03.dat"])
def test_a_corrupt_recording_stops_the_build_and_a_whole_one_lets_it_pass(
    study, tmp_path, raw, name, contents, refused
):
    path = tmp_path / "raw" / name
    path.write_bytes(path.read_bytes()[:-100])
    made = study()
    assert str(path) in refused(made)
    shutil.copy(raw / name, path)
    unit = run(made)
    assert set(contents(unit)) == {"s01.tar", "s02.tar", "s03.tar", NAME}
    assert list(unit.folder.parent.iterdir()) == [unit.folder]


def test_a_damaged_shard_is_told_by_its_name(study):
    made = study()
    unit = run(made)
    path = unit.folder / "s02.tar"
    whole = bytearray(path.read_bytes())
    whole[700] ^= 1
    path.write_bytes(whole)
    workspace._check.cache_clear()
    for stage in (run, open_shards):
        with pytest.raises(MtkdError, match=r"s02\.tar: its checksum is not the manifest's"):
            stage(made)


def test_opening_shards_that_are_not_there_says_what_to_run(study):
    with pytest.raises(MtkdError, match="run `mtkd shards` first"):
        open_shards(study())


def test_a_pipe_in_a_files_place_is_refused(study, tmp_path, refused):
    made = study()
    (tmp_path / "raw/s02.dat").unlink()
    os.mkfifo(tmp_path / "raw/s02.dat")
    assert refused(made) == f"{tmp_path / 'raw/s02.dat'}: is no file"


def test_a_recordings_source_is_what_a_recording_in_use_is_known_by(study, tmp_path):
    """A table beside the EEG makes it no other recording: else a student would answer for whom it was trained on."""
    eeg, physio = tmp_path / "sub-01_eeg.edf", tmp_path / "sub-01_physio.tsv.gz"
    eeg.write_bytes(b"eeg")
    physio.write_bytes(b"physio")
    file = File("sub-01", "01", (eeg, physio))
    assert build._sources([Job(file, make_unit(study(), "x", "x", {}), [])]) == {digest_of_all(all_of(eeg)): "01"}


def test_what_no_recording_has_is_told_and_what_is_left_out_told_again(tmp_path, make_study, in_this_process, capsys):
    for index, name in enumerate(("Fz", "Cz")):
        values = np.random.default_rng(index).uniform(1, 90, 640)
        signal = edfio.EdfSignal(values, 64, label=name, physical_dimension="uV")
        edfio.Edf([signal]).write(tmp_path / f"{name}.edf")
    (tmp_path / "trials.csv").write_text("file,subject,start_s,stop_s,valence\nFz.edf,a,0,9,1\nCz.edf,b,0,9,9\n")
    table = "exclude: [z], rename: {Fz: F1, Oz: O1}, channels: {'*': eeg}"
    given = [f"data={{reader: table, folder: {tmp_path}, {table}}}"]
    given += ["signals.modalities={eeg: {sfreq: 64}, ecg: {sfreq: 64}}", "temporal={modalities: [eeg], patch_s: 2}"]
    given += [
        "distill.modalities=[ecg]",
        "labels={valence: 5}",
        "windows={window_s: 2, hop_s: 2}",
        "signals.lead_s=0",
        "spatial.bands=[[1, 4]]",
    ]
    made = make_study(*given, "data.absent=mask", workspace=tmp_path / "workspace")
    with pytest.raises(MtkdError, match="ecg"):
        run(made)
    made = make_study(*given, "data.absent=mask", "data.channels={F1: eeg, Cz: ecg}", workspace=tmp_path / "workspace")
    left_out = run(made).manifest().measured["left_out"]
    assert left_out == {"data.exclude: z": "is no file's subject", "data.rename: Oz": "is no recording's channel"}
    assert "data.rename: Oz: is no recording's channel" in capsys.readouterr().out
    run(made)
    assert "left out: data.exclude: z: is no file's subject" in capsys.readouterr().out
