"""What becomes of events, channels and names in a BIDS data set that cannot be meant."""

from pathlib import Path

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


def test_a_bad_channel_is_told_among_what_is_left_out(bids_root):
    table: Path = bids_root / CHANNELS
    table.write_text(table.read_text().replace("good", "bad"))
    assert find(bids_root, bids()).left_out == {"sub-01_task-x_eeg.edf, Fz": "channels.tsv calls it bad"}
    assert find(bids_root, bids(channels={"Fz": "eeg"})).left_out == {}


def test_two_rows_of_one_channel_are_refused(bids_root):
    table: Path = bids_root / CHANNELS
    table.write_text(table.read_text() + "Fz\tECG\tuV\tgood\n")
    with pytest.raises(MtkdError, match=rf"^{table}: two rows are of the channel 'Fz'$"):
        find(bids_root, bids())
