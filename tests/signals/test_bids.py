"""BIDS data sets: which recordings are found, what their sidecars say, and what is left out or refused."""

import json
from pathlib import Path

import edfio
import mne
import mne_bids
import numpy as np
import pytest
import scipy.io

from mtkd.config import Bids, Column
from mtkd.errors import MtkdError
from mtkd.signals.readers import find, read, streams
from mtkd.signals.recording import Recording

SFREQ = 64
EVENTS = "onset\tduration\ttrial_type\n1\t2\trest\n4\t3.5\tstress\n"
TYPES = {"Fz": "EEG", "GSR": "GSR"}
UNITS = {"GSR": "uS", "TEMP": "degC", "RESP": "", "PPG": "", "MISC": "", "TRIG": ""}


def bids(**changes) -> Bids:
    return Bids(**{"reader": "bids", "folder": "x"} | changes)


def tsv(types: dict[str, str], status: str = "good") -> str:
    lines = (f"{name}\t{kind}\tn/a\t{status}" for name, kind in types.items())
    return "\n".join(["name\ttype\tunits\tstatus", *lines, ""])


def add(
    root: Path, stem: str = "sub-01_task-x_run-1", events: str | None = EVENTS, types: dict[str, str] | None = None
) -> Path:
    """Add ten seconds of one recording, its channels of ``types``; without sidecars where these are None."""
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}))
    parts = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    folder = root.joinpath(*parts, "eeg")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(
            rng.uniform(1, 40, 10 * SFREQ), SFREQ, label=name, physical_dimension=UNITS.get(kind.upper(), "uV")
        )
        for name, kind in (types or TYPES).items()
    ]
    path = folder / f"{stem}_eeg.edf"
    edfio.Edf(signals).write(path)
    path.with_suffix(".json").write_text(json.dumps({"TaskName": "x", "SamplingFrequency": SFREQ}))
    if events is not None:
        (folder / f"{stem}_events.tsv").write_text(events)
    if types is not None:
        (folder / f"{stem}_channels.tsv").write_text(tsv(types))
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    add(tmp_path, types=TYPES)
    return tmp_path


def everything(root: Path, data: Bids) -> list[Recording]:
    return [recording for file in find(root, data).files for recording in read(file, data)]


def names(root: Path, **changes) -> list[str]:
    return [file.name for file in find(root, bids(**changes)).files]


def refused(root: Path, place: Path, **changes) -> str:
    with pytest.raises(MtkdError) as caught:
        everything(root, bids(**changes))
    sentence = str(caught.value)
    assert sentence.startswith(f"{place}: ")
    assert sentence.isprintable()
    return sentence


def test_every_event_that_lasts_is_a_trial(root):
    (root / "sub-01/eeg/sub-01_task-x_run-1_events.tsv").write_text(EVENTS + "8\t0\tclick\n9\tn/a\tkey\n")
    (recording,) = everything(root, bids())
    assert recording.subject == "01"
    told = [(span.name, span.stimulus, span.start_s, span.stop_s, span.ratings) for span in recording.spans]
    assert told == [("task-x_run-1-1", "rest", 1.0, 3.0, {}), ("task-x_run-1-2", "stress", 4.0, 7.5, {})]
    assert recording.rejected == {}


def test_trial_types_choose_events_and_levels_make_ratings_of_words(root):
    ratings = {"stressed": Column(column="trial_type", levels={"rest": 0, "stress": 1})}
    (recording,) = everything(root, bids(ratings=ratings))
    assert [span.ratings for span in recording.spans] == [{"stressed": 0.0}, {"stressed": 1.0}]
    (recording,) = everything(root, bids(ratings=ratings, trial_types=["stress"]))
    assert [(span.name, span.ratings) for span in recording.spans] == [("task-x_run-1-1", {"stressed": 1.0})]


def test_type_stimulus_and_ratings_may_be_in_any_column(tmp_path):
    add(
        tmp_path,
        events="duration\tonset\tvalue\tfile\tarousal\n2\t1\t7\ta.wav\t4.5\n2\t3\t8\tb.wav\tn/a\n",
        types=TYPES,
    )
    data = bids(type_column="value", trial_types=["7", "8"], stimulus="file", ratings={"arousal": "arousal"})
    (recording,) = everything(tmp_path, data)
    assert [(span.stimulus, span.ratings) for span in recording.spans] == [("a.wav", {"arousal": 4.5}), ("b.wav", {})]


@pytest.mark.parametrize("event", ["n/a\t2", "-1\t2", "9\t1.5", "11\t1", "4\tn/a", "4\t0"])
def test_an_event_that_is_not_inside_its_recording_is_rejected_with_its_reason(tmp_path, event):
    add(tmp_path, events=f"{EVENTS}{event}\trest\n", types=TYPES)
    (recording,) = everything(tmp_path, bids(trial_types=["rest"]))
    assert [span.name for span in recording.spans] == ["task-x_run-1-1"]
    assert list(recording.rejected) == ["task-x_run-1-2"]
    assert recording.rejected["task-x_run-1-2"].endswith("how long it lasts" if "n/a" in event else "lasts 10 s")


def test_channels_are_what_their_table_says(tmp_path):
    kinds = ["EEG", "VEOG", "HEOG", "EOG", "EMG", "ECG", "GSR", "RESP", "PPG", "temp", "MISC", "TRIG", "AUDIO"]
    add(tmp_path, types={f"[{kind}]*": kind for kind in kinds})
    (recording,) = everything(tmp_path, bids())
    found = {kind: [name.strip("[]*") for name in stream.ch_names] for kind, stream in recording.streams.items()}
    assert (found.pop("eog"), found.pop("eda")) == (["VEOG", "HEOG", "EOG"], ["GSR"])
    assert found == {kind: [kind if kind == "temp" else kind.upper()] for kind in found}
    assert found.keys() == {"eeg", "emg", "ecg", "resp", "ppg", "temp"}


def test_bad_channels_are_left_out(tmp_path):
    path = add(tmp_path, types={"Fz": "EEG", "Cz": "EEG", "GSR": "GSR"})
    sidecar = path.with_name("sub-01_task-x_run-1_channels.tsv")
    sidecar.write_text(sidecar.read_text().replace("Cz\tEEG\tn/a\tgood", "Cz\tEEG\tn/a\tbad"))
    for channels, expected in ({}, ["Fz"]), ({"*z": "eeg"}, ["Fz"]), ({"Cz": "eeg"}, ["Fz", "Cz"]):
        (recording,) = everything(tmp_path, bids(channels=channels))
        assert recording.streams["eeg"].ch_names == expected


def test_a_tab_at_the_end_of_a_row_is_no_cell(tmp_path):
    events = "\n".join(line + "\t" * (number > 0) for number, line in enumerate(EVENTS.splitlines()))
    with_tabs, without = tmp_path / "a", tmp_path / "b"
    for root, text in ((with_tabs, events), (without, EVENTS)):
        root.mkdir()
        add(root, events=text, types=TYPES)
    assert names(with_tabs) == names(without) != []


def test_the_study_goes_before_the_table_of_channels(root):
    (recording,) = everything(root, bids(channels={"F*": "ecg", "GSR": "ignore"}))
    assert {kind: stream.ch_names for kind, stream in recording.streams.items()} == {"ecg": ["Fz"]}


def test_a_channel_that_neither_types_is_refused(tmp_path):
    path = add(tmp_path)
    assert "channel 'GSR' matches no pattern" in refused(tmp_path, path, channels={"Fz": "eeg"})


def test_recordings_of_subjects_sessions_and_runs_are_named_by_them(tmp_path):
    for stem in (
        "sub-02_ses-b_task-x",
        "sub-02_ses-a_task-x_run-2",
        "sub-02_ses-a_task-x_run-1",
        "sub-01_ses-a_task-x",
    ):
        add(tmp_path, stem, types=TYPES)
    (tmp_path / "sub-02/ses-b/anat").mkdir()
    (tmp_path / "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz").write_bytes(b"")
    stems = ["sub-01_ses-a_task-x", "sub-02_ses-a_task-x_run-1", "sub-02_ses-a_task-x_run-2", "sub-02_ses-b_task-x"]
    assert names(tmp_path) == stems
    assert names(tmp_path, sessions=["a"]) == stems[:3]
    assert names(tmp_path, sessions=["a"], subjects=["02"]) == stems[1:3]
    assert refused(tmp_path, tmp_path, sessions=["a", "c"]).endswith("data.sessions names; there are a, b")
    trials = [span.name for recording in everything(tmp_path, bids(subjects=["02"])) for span in recording.spans]
    assert len({*trials}) == len(trials) == 6


def test_of_several_tasks_the_study_chooses_one(root):
    add(root, "sub-01_task-y", types=TYPES)
    assert "holds the tasks x, y; data.task chooses one" in refused(root, root)
    assert names(root, task="y") == ["sub-01_task-y"]
    assert "no recording of 'z'" in refused(root, root, task="z")


def test_what_has_no_trials_is_left_out_with_its_reason(root):
    add(root, "sub-02_task-x", events=None, types=TYPES)
    add(root, "sub-03_task-x", events="onset\tduration\ttrial_type\n1\t0\tkey\n", types=TYPES)
    found = find(root, bids())
    assert [file.subject for file in found.files] == ["01"]
    assert found.left_out == {
        "sub-02_task-x_eeg.edf": "no events.tsv holds for its name",
        "sub-03_task-x_eeg.edf": "none of its events is a trial",
    }


def test_derivatives_sources_and_other_folders_are_ignored(root):
    for place in ("derivatives/clean", "sourcedata", "code"):
        (root / place).mkdir(parents=True)
        add(root / place, types=TYPES)
    (file,) = find(root, bids()).files
    assert file.path == root / "sub-01/eeg/sub-01_task-x_run-1_eeg.edf"


def test_sidecars_at_the_root_hold_for_all_that_have_none(tmp_path):
    for subject in ("01", "02"):
        add(tmp_path, f"sub-{subject}_task-x", events=None)
    add(tmp_path, "sub-03_task-x", events="onset\tduration\ttrial_type\n0\t5\town\n")
    (tmp_path / "task-x_events.tsv").write_text(EVENTS)
    (tmp_path / "task-x_channels.tsv").write_text(tsv(TYPES))
    (tmp_path / "task-y_channels.tsv").write_text(tsv(TYPES, "bad"))
    recordings = everything(tmp_path, bids())
    assert [[span.stimulus for span in recording.spans] for recording in recordings] == [
        ["rest", "stress"],
        ["rest", "stress"],
        ["own"],
    ]
    assert all(list(recording.streams) == ["eeg", "eda"] for recording in recordings)


def test_a_data_set_that_mne_bids_wrote_holds_what_was_written(tmp_path):
    values = np.random.default_rng(0).uniform(1e-6, 4e-5, (3, 10 * SFREQ))
    raw = mne.io.RawArray(values, mne.create_info(["Fz", "ECG", "GSR"], SFREQ, ["eeg", "ecg", "gsr"]), verbose="error")
    raw.set_annotations(mne.Annotations([1, 4], [2, 3.5], ["rest", "stress"]))
    raw.info["bads"] = ["ECG"]
    path = mne_bids.BIDSPath(subject="07", session="a", task="x", run="1", datatype="eeg", root=tmp_path)
    mne_bids.write_raw_bids(raw, path, format="EDF", allow_preload=True, verbose="error")
    (recording,) = everything(tmp_path, bids())
    assert recording.subject == "07"
    assert [(span.stimulus, span.start_s, span.stop_s) for span in recording.spans] == [
        ("rest", 1, 3),
        ("stress", 4, 7.5),
    ]
    assert list(recording.streams) == ["eeg", "eda"]
    for kind, row in (("eeg", 0), ("eda", 2)):
        np.testing.assert_allclose(recording.streams[kind].read(64, 640)[0], values[row, 64:], atol=2e-9)


@pytest.mark.parametrize("unit", ["uS", "µS", "μS"])
def test_a_unit_that_the_header_lacks_is_that_of_the_table_unless_the_study_corrects_it(tmp_path, unit):
    path = add(tmp_path, types={"GSR": "MISC"})
    sidecar = path.with_name("sub-01_task-x_run-1_channels.tsv")
    sidecar.write_text(sidecar.read_text().replace("MISC\tn/a", f"GSR\t{unit}"), encoding="utf-8")
    (told,) = everything(tmp_path, bids())
    (corrected,) = everything(tmp_path, bids(units={"GSR": "nS"}))
    student = streams(path, bids(), {"GSR": "eda"}, {})
    np.testing.assert_array_equal(student["eda"].read(0, 640), told.streams["eda"].read(0, 640))
    assert 2e-5 < told.streams["eda"].read(0, 640).max() < 4e-5
    assert 2e-8 < corrected.streams["eda"].read(0, 640).max() < 4e-8
    sidecar.write_text(sidecar.read_text().replace(unit, "n/a"))
    assert "GSR is in the unit ''" in refused(tmp_path, path)


def test_eeglabs_files_have_the_units_of_the_table_where_they_hold_no_voltage(tmp_path):
    add(tmp_path, types={"Fz": "EEG", "GSR": "GSR"}).unlink()
    path, row = tmp_path / "sub-01/eeg/sub-01_task-x_run-1_eeg.set", np.linspace(1, 40, 640)
    path.with_name("sub-01_task-x_run-1_channels.tsv").write_text("name\ttype\tunits\nFz\tEEG\tV\nGSR\tGSR\tnS\n")
    eeg = {name: [] for name in ("event", "urevent", "epoch", "icawinv", "icaweights", "icasphere")}
    eeg |= {"nbchan": 2.0, "srate": 64.0, "pnts": 640.0, "trials": 1.0, "xmin": 0.0, "xmax": 10.0, "setname": "x"}
    eeg |= {"data": np.stack([row, row]), "chanlocs": np.array([("Fz",), ("GSR",)], [("labels", object)])}
    scipy.io.savemat(path, {"EEG": eeg}, appendmat=False)
    (recording,) = everything(tmp_path, bids())
    np.testing.assert_allclose(recording.streams["eeg"].read(0, 640)[0], row * 1e-6)
    np.testing.assert_allclose(recording.streams["eda"].read(0, 640)[0], row * 1e-9)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    assert "no BIDS data set" in refused(tmp_path, tmp_path)
    assert refused(tmp_path / "none", tmp_path / "none")
    (tmp_path / "sub-01/eeg").mkdir(parents=True)
    (tmp_path / "sub-01/eeg/sub-01_task-x_foo-1_eeg.edf").write_bytes(b"")
    assert refused(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("events", "changes", "told"),
    [
        ("onset\ttrial_type\n1\trest\n", {}, "'duration'"),
        ("onset\tduration\n1\t2\n", {"trial_types": ["rest"]}, "'trial_type'"),
        ("onset\tduration\tonset\n1\t2\t3\n", {}, "2 columns are called 'onset'"),
        ("onset\tduration\n1\n", {}, "line 2 has 1 cells"),
        ("onset\tduration\nsoon\t2\n", {}, "line 2: onset is 'soon'"),
        ("onset\tduration\n1\tinf\n", {}, "line 2: duration is 'inf'"),
        (EVENTS, {"stimulus": "film"}, "no column 'film'"),
        (EVENTS, {"ratings": {"joy": "joy"}}, "no column 'joy'"),
        (EVENTS, {"ratings": {"joy": "trial_type"}}, "line 2: trial_type is 'rest'"),
        (EVENTS, {"ratings": {"x": Column(column="trial_type", levels={"stress": 1})}}, "levels knows stress"),
    ],
)
def test_a_damaged_table_of_events_is_refused_by_it(tmp_path, events, changes, told):
    path = add(tmp_path, events=events, types=TYPES)
    assert told in refused(tmp_path, path.with_name("sub-01_task-x_run-1_events.tsv"), **changes)


def test_damaged_tables_and_recordings_are_refused_by_their_name(root):
    folder = root / "sub-01/eeg"
    path = folder / "sub-01_task-x_run-1_eeg.edf"
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in refused(root, path)
    channels = folder / "sub-01_task-x_run-1_channels.tsv"
    channels.write_bytes(b"name\ttype\nF\xff\tEEG\n")
    assert "no table" in refused(root, channels)
    channels.write_text("name\nFz\n")
    assert "'type'" in refused(root, channels)
