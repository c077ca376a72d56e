"""What becomes of events, channels and names in a BIDS data set that cannot be meant."""

import json
import time
import unicodedata
from pathlib import Path

import edfio
import numpy as np
import pytest

from mtkd.config import Bids
from mtkd.errors import MtkdError
from mtkd.signals.readers import find, read

EVENTS, CHANNELS = (f"sub-01/eeg/sub-01_task-x_{name}.tsv" for name in ("events", "channels"))


def bids(**changes) -> Bids:
    return Bids(**{"reader": "bids", "folder": "x"} | changes)


def test_a_trial_type_that_no_event_has_is_refused_with_those_there_are(bids_root):
    with pytest.raises(MtkdError) as caught:
        find(bids_root, bids(trial_types=["film", "flim"]))
    assert str(caught.value) == f"{bids_root}: no event is 'flim', as data.trial_types has it; they are film"


def test_an_event_where_another_lies_is_rejected(bids_root):
    (bids_root / EVENTS).write_text("onset\tduration\ttrial_type\n2\t7\trest\n2.0\t7\ttask\n3\t6\ttask\n")
    (file,) = find(bids_root, bids()).files
    (recording,) = read(file, bids())
    assert [span.stimulus for span in recording.spans] == ["rest", "task"]
    assert recording.rejected == {"task-x-2": "lies where task-x-1 does; data.trial_types chooses one of them"}
    (file,) = find(bids_root, bids(trial_types=["task"])).files
    (recording,) = read(file, bids())
    assert recording.rejected == {}


@pytest.mark.parametrize("labels", [("Fz", "Cz"), ("EEG Fz", "EEG Cz")])
@pytest.mark.parametrize("status", ["bad", "Bad"])
def test_a_bad_channel_is_left_out_and_told_whatever_the_file_puts_before_its_name(bids_root, labels, status):
    (path,) = bids_root.rglob("*.edf")
    noise = np.random.default_rng(0).uniform(1, 40, (2, 640))
    signals = [
        edfio.EdfSignal(row, 64, label=label, physical_dimension="uV") for label, row in zip(labels, noise, strict=True)
    ]
    edfio.Edf(signals).write(path)
    table = f"name\ttype\tstatus\nFz\tEEG\t{status}\nCz\tEEG\tgood\nP9\tEEG\tbad\n"  # P9 the recording has not
    (bids_root / CHANNELS).write_text(table)
    named = {labels[0]: "eeg", "*": "eeg"}
    for channels, kept, told in (
        ({}, ["Cz"], [labels[0]]),
        ({"*": "eeg"}, ["Cz"], [labels[0]]),
        (named, ["Fz", "Cz"], []),
    ):
        (file,) = find(bids_root, bids(channels=channels)).files
        (recording,) = read(file, bids(channels=channels))
        assert recording.streams["eeg"].ch_names == kept
        assert dict(recording.streams["eeg"].left_out) == dict.fromkeys(told, "channels.tsv calls it bad")


def test_two_tables_that_are_equally_near_are_refused(bids_root):
    table: Path = bids_root / CHANNELS
    table.with_name("sub-01_channels.tsv").write_text(table.read_text())
    assert find(bids_root, bids()).files  # the one with more entities is nearer
    table.rename(table.with_name("task-x_channels.tsv"))
    with pytest.raises(MtkdError, match=r"both sub-01_channels\.tsv and task-x_channels\.tsv could be its"):
        find(bids_root, bids())


def test_many_events_are_read_in_time_that_grows_with_them(bids_root):
    rows = "".join(f"{2 + n / 10_000}\t0.5\tx\n" for n in range(20_000))
    (bids_root / EVENTS).write_text("onset\tduration\ttrial_type\n" + rows)
    started = time.process_time()
    (file,) = find(bids_root, bids()).files
    (recording,) = read(file, bids())
    assert len(recording.spans) == 20_000
    assert time.process_time() - started < 15


def test_two_rows_of_one_channel_are_refused(bids_root):
    table: Path = bids_root / CHANNELS
    table.write_text(table.read_text() + "Fz\tECG\tuV\tgood\n")
    with pytest.raises(MtkdError, match=rf"^{table}: two rows are of the channel 'Fz'$"):
        find(bids_root, bids())


def test_a_subject_in_the_other_spelling_of_an_accent_is_the_same(bids_root):
    for path in [*sorted(bids_root.rglob("sub-01_*")), bids_root / "sub-01"]:
        path.rename(path.with_name(path.name.replace("sub-01", unicodedata.normalize("NFD", "sub-Jörg"))))
    for form in ("NFC", "NFD"):
        data = bids(subjects=[unicodedata.normalize(form, "Jörg")])
        (file,) = find(bids_root, data).files
        (recording,) = read(file, data)
        assert recording.subject == unicodedata.normalize("NFC", "Jörg")


def test_a_quote_does_not_swallow_trials(bids_root):
    lines = ['1\t1\t"film', "3\t1\tfilm", '5\t1\tfilm"']
    (bids_root / EVENTS).write_text("\n".join(["onset\tduration\ttrial_type", *lines, ""]))
    with pytest.raises(MtkdError, match=rf"^{bids_root / EVENTS}: line 2 has a quote that ends in another line$"):
        find(bids_root, bids())


def test_what_mne_bids_passes_over_is_told(bids_root):
    """A name that BIDS has not, another format, another folder: each is somebody's recording."""
    own = bids_root / "sub-01/eeg"
    names = ["sub-01_task-x_eeg.EDF", "sub-01_run-1_task-x_eeg.edf", "sub-01_task-x_run1_eeg.edf", "sub-01_task-x.edf"]
    for place in (
        *(own / name for name in names),
        bids_root / "sub-02/EEG/sub-02_task-x_eeg.edf",
        own / "sub-01_task-y_x.edf",
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
    for subject in ("03", "04", "05"):
        (bids_root / f"sub-{subject}").mkdir()
    found = find(bids_root, bids(task="x", exclude=["03"])).left_out
    assert found.keys() == {*names, "sub-02_task-x_eeg.edf", "sub-04", "sub-05", "data.exclude: 03"}
    assert found["sub-02_task-x_eeg.edf"].startswith("not called as BIDS calls EEG: sub-*/[ses-*/]eeg/")
    assert found["sub-04"] == "no EEG of the study is in it"


@pytest.mark.parametrize(("said", "refused"), [(10, False), (10.9, False), ("n/a", False), (12, True)])
def test_a_recording_shorter_than_its_description_says_is_refused(bids_root, said, refused):
    (bids_root / "task-x_eeg.json").write_text(json.dumps({"RecordingDuration": said}))
    (file,) = find(bids_root, bids()).files
    if not refused:
        assert len(list(read(file, bids()))) == 1
        return
    with pytest.raises(MtkdError, match=rf"^{file.path}: truncated, it lasts 10 s, and by its eeg\.json 12 s$"):
        list(read(file, bids()))


def test_what_its_table_calls_no_electrode_is_none_by_a_pattern_for_the_rest(bids_root):
    table: Path = bids_root / CHANNELS
    table.write_text(table.read_text().replace("EEG", "VEOG"))
    (file,) = find(bids_root, bids()).files
    with pytest.raises(MtkdError, match=r"data\.channels makes electrodes of Fz \(eog\), which the file says are none"):
        list(read(file, bids(channels={"*": "eeg"}).only(["eeg"])))


def test_a_misspelt_subject_is_told_before_the_events_that_nobody_read(bids_root):
    with pytest.raises(MtkdError, match=r"no file of the subject sub-01 that data\.subjects names; there are 01$"):
        find(bids_root, bids(subjects=["sub-01"], trial_types=["film"]))
