"""BIDS' tables of what another device recorded beside the EEG: they lie in its time, in SI units, or are refused."""

import gzip
import json
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Bids
from mtkd.errors import MtkdError
from mtkd.signals.readers import find, physio, read

SFREQ, SECONDS = 32, 10
STEM = "sub-01_task-x"
COLUMNS = {"cardiac": "", "respiratory": "", "eda": "uS", "trigger": ""}


@pytest.fixture
def root(bids_root: Path) -> Path:
    return bids_root


def put(root: Path, values: np.ndarray, start_s: float = 0.0, between: str = "", columns=COLUMNS, **changes) -> Path:
    """A table with its description; of the columns' units those that have one."""
    path = root / "sub-01" / "eeg" / f"{STEM}{between}_physio.tsv.gz"
    rows = ("\t".join("n/a" if np.isnan(value) else repr(float(value)) for value in row) for row in values.T)
    path.write_bytes(gzip.compress("".join(row + "\n" for row in rows).encode()))
    said = {"SamplingFrequency": SFREQ, "StartTime": start_s, "Columns": list(columns)} | changes
    said |= {name: {"Units": unit} for name, unit in columns.items() if unit}
    path.with_name(path.name.replace(".tsv.gz", ".json")).write_text(json.dumps(said))
    return path


def streams(root: Path, **changes) -> dict:
    data = Bids(**{"reader": "bids", "folder": "x"} | changes)
    (file,) = find(root, data).files
    (recording,) = read(file, data)
    return recording.streams


def refused(root: Path, path: Path, **changes) -> str:
    with pytest.raises(MtkdError) as caught:
        streams(root, **changes)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence.isprintable()
    return sentence.removeprefix(f"{path}: ")


def waves(n_times: int, n_columns: int = 4) -> np.ndarray:
    return np.random.default_rng(1).uniform(1, 20, (n_columns, n_times))


@pytest.mark.parametrize("start_s", [-1.5, 0.0, 0.25])
def test_columns_lie_in_the_time_of_the_eeg_in_si_units(root, start_s):
    values = waves(6 * SFREQ)
    values[0, 7] = np.nan
    put(root, values, start_s)
    found = streams(root)
    assert {
        kind: (stream.ch_names, stream.sfreq, stream.n_times) for kind, stream in found.items() if kind != "eeg"
    } == {
        "ppg": (["cardiac"], 32.0, 320),
        "resp": (["respiratory"], 32.0, 320),
        "eda": (["eda"], 32.0, 320),
    }
    for row, (kind, unit) in enumerate({"ppg": 1.0, "resp": 1.0, "eda": 1e-6}.items()):
        expected = np.full(320, np.nan)
        for index in range(6 * SFREQ):
            if (at := index + round(start_s * SFREQ)) >= 0:
                expected[at] = values[row, index] * unit
        np.testing.assert_allclose(found[kind].read(0, 320)[0], expected)
        np.testing.assert_array_equal(found[kind].read(40, 70)[0], found[kind].read(0, 320)[0, 40:70])


@given(st.integers(0, 30), st.integers(-40, 40), st.integers(0, 40), st.integers(0, 20))
def test_any_cut_is_that_of_the_whole(n_times, shift, start, length):
    rows = np.arange(2.0 * n_times).reshape(2, n_times)
    whole = np.full((2, 200), np.nan)
    whole[:, 100 + shift : 100 + shift + n_times] = rows
    expected = whole[:, 100 + start : 100 + start + length]
    np.testing.assert_array_equal(physio._cut(rows, shift, start, start + length), expected)


def test_several_tables_and_descriptions_further_up(root):
    put(root, waves(99, 1), between="_recording-belt", columns={"respiratory": ""})
    path = put(root, waves(99, 1), between="_recording-watch", columns={"eda": "uS"}, SamplingFrequency=4)
    sidecar = path.with_name(path.name.replace(".tsv.gz", ".json"))
    sidecar.rename(root / "recording-watch_physio.json")
    (root / "task-other_physio.json").write_text("{")  # of another task
    found = streams(root)
    assert {kind: stream.sfreq for kind, stream in found.items()} == {"eeg": 64.0, "resp": 32.0, "eda": 4.0}


def test_the_study_names_columns_and_corrects_units(root):
    put(root, waves(320, 2), columns={"GSR(a)": "", "pulse": ""})
    asked = {"channels": {"GSR*": "eda", "pulse": "ppg"}, "units": {"GSR(a)": "nS"}}
    assert streams(root, **asked)["eda"].read(0, 9).max() < 3e-8
    assert streams(root, channels={"GSR*": "ignore", "pulse": "ppg"}).keys() == {"eeg", "ppg"}


def test_the_study_renames_columns(root):
    put(root, waves(320, 2), columns={"gsr": "uS", "cardiac": ""})
    found = streams(root, rename={"gsr": "EDA", "pulse": "PPG"}, units={"EDA": "nS"}, channels={"EDA": "eda"})
    assert (found["eda"].ch_names, found["ppg"].ch_names) == (["EDA"], ["cardiac"])
    assert found["eda"].read(0, 9).max() < 3e-8
    assert streams(root, rename={"cardiac": "resp"}, channels={"gsr": "ignore"})["resp"].ch_names == ["resp"]
    assert frozenset.intersection(*(stream.unheard for stream in found.values())) == {"data.rename: pulse"}


@pytest.mark.parametrize("start_s", [0.484, -0.484])
def test_a_start_between_two_samples_is_that_of_the_nearer(root, start_s):
    put(root, waves(6 * SFREQ), start_s)
    valid = ~np.isnan(streams(root)["ppg"].read(0, 320)[0])
    assert np.flatnonzero(valid)[0] == max(0, round(start_s * SFREQ))
    assert np.flatnonzero(valid)[-1] == round(start_s * SFREQ) + 6 * SFREQ - 1


def test_it_is_part_of_what_a_recording_depends_on(root):
    path = put(root, waves(320))
    (file,) = find(root, Bids(reader="bids", folder="x")).files
    assert path in file.paths
    put(root, waves(320), start_s=1.0)
    (changed,) = find(root, Bids(reader="bids", folder="x")).files
    assert changed.rows != file.rows


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"columns": {"cardiac": "", "x": "", "eda": "uS", "trigger": ""}}, "channel 'x' matches no pattern"),
        ({"columns": {"cardiac": "", "respiratory": "", "eda": "", "trigger": ""}}, "eda is in the unit ''"),
        ({"columns": {"cardiac": "", "eda": "uS"}}, "has 4 columns, its .json tells of 2"),
        ({"Columns": ["a", "a"]}, "two of its columns share a name"),
        ({"SamplingFrequency": 0}, "the .json that describes it: SamplingFrequency: "),
        ({"StartTime": "soon"}, "the .json that describes it: StartTime: "),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(root, changes, told):
    assert told in refused(root, put(root, waves(320), **changes))


def test_a_modality_that_both_have_is_refused(root):
    path = put(root, waves(320, 1), between="_recording-a", columns={"respiratory": ""})
    other = put(root, waves(320, 1), between="_recording-b", columns={"resp": ""})
    assert "has resp, as its EEG's file or another table has" in refused(root, other)
    assert streams(root, channels={"resp": "ignore"})["resp"].ch_names == ["respiratory"]
    assert path.exists()


def test_damaged_tables_are_refused(root, monkeypatch):
    path = put(root, waves(320))
    whole = path.read_bytes()
    for content in (b"", whole[:-20], whole[:40], b"\0" + whole, whole[:200] + bytes(40) + whole[240:]):
        path.write_bytes(content)
        assert refused(root, path).startswith(("damaged", "has "))
    for text in ("1\t2\t3\n", "a\tb\tc\td\n", "1\t2\t3\t4\n1\t2\t3\t4\t5\n"):
        path.write_bytes(gzip.compress(text.encode()))
        assert refused(root, path).startswith(("damaged", "has "))
    monkeypatch.setattr(physio, "MAX_BYTES", 10**6)
    path.write_bytes(gzip.compress(b"1\t2\t3\t4\n" * 10**6))
    assert refused(root, path) == "unpacks to more than 1000000 bytes"


def test_without_a_description_a_table_is_refused(root):
    path = put(root, waves(320))
    path.with_name(f"{STEM}_physio.json").unlink()
    assert "SamplingFrequency: Field required" in refused(root, path)


@pytest.mark.parametrize("line", ["", "\t", "n/a\tn/a"])
def test_a_line_without_a_number_is_a_sample_all_the_same(root, line):
    """Were it skipped, all samples after it would come too early."""
    columns = {"cardiac": "", "respiratory": ""} if "\t" in line else {"cardiac": ""}
    values = waves(6 * SFREQ, len(columns))
    path = put(root, values, columns=columns)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[10:20] = [line] * 10
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    stream = streams(root)["ppg"]
    found = stream.read(0, 6 * SFREQ)[0]
    assert np.isnan(found[10:20]).all()
    np.testing.assert_array_equal(found[20:], values[0, 20:])
    np.testing.assert_array_equal(found[:10], values[0, :10])


def test_a_modality_of_the_table_alone_may_be_all_that_is_asked_for(root):
    values = waves(6 * SFREQ)
    put(root, values)
    data = Bids(reader="bids", folder="x")
    (file,) = find(root, data).files
    (whole,), (alone,) = read(file, data), read(file, data.only(["ppg"]))
    assert set(whole.streams) > {"eeg", "ppg"}
    assert list(alone.streams) == ["ppg"]
    np.testing.assert_array_equal(alone.streams["ppg"].read(0, 90), whole.streams["ppg"].read(0, 90))


def test_what_a_column_answers_to_is_heard_though_nobody_asks_for_it(root):
    put(root, waves(320, 2), columns={"skin": "", "cardiac": ""})
    data = Bids(reader="bids", folder="x", units={"skin": "uS", "x": "V"}, channels={"skin": "eda"}).only(["eeg"])
    (file,) = find(root, data).files
    (recording,) = read(file, data)
    assert {kind: stream.unheard for kind, stream in recording.streams.items()} == {"eeg": {"data.units: x"}}


def test_what_nobody_asks_for_in_the_eegs_file_stops_no_table(root):
    """An electrode alone, which is bad, and a sensor without a unit."""
    (path,) = root.rglob("*.edf")
    noise = np.random.default_rng(0).uniform(1, 40, (2, 640))
    pairs = zip(noise, (("Fz", "uV"), ("GSR", "")), strict=True)
    edfio.Edf([edfio.EdfSignal(row, 64, label=name, physical_dimension=unit) for row, (name, unit) in pairs]).write(
        path
    )
    table = path.with_name(f"{STEM}_channels.tsv")
    table.write_text("name\ttype\tunits\tstatus\nFz\tEEG\tuV\tbad\nGSR\tGSR\tn/a\tgood\n")
    put(root, waves(10 * SFREQ, 2), columns={"cardiac": "", "trigger": ""})
    data = Bids(reader="bids", folder="x", rename={"Fz": "F", "X": "Y"}).only(["eeg", "ppg"])
    (file,) = find(root, data).files
    (recording,) = read(file, data)
    assert recording.streams.keys() == {"ppg"}
    assert recording.streams["ppg"].unheard == {"data.rename: X"}
    with pytest.raises(
        MtkdError, match=rf"^{path}: neither it nor a table beside it has a channel that the study asks"
    ):
        list(read(file, data.only(["temp"])))


def test_a_difference_that_no_file_makes_is_told_though_a_column_has_its_name(root):
    put(root, waves(10 * SFREQ))
    assert streams(root, bipolar={"eda": ["A", "B"]})["ppg"].unheard == {"data.bipolar: eda"}
