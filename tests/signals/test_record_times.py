"""Records that tell when they begin: gaps at the end of a file, and files that may have gaps and have none."""

import re
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Table
from mtkd.errors import MtkdError
from mtkd.signals.readers.edf_header import read_header
from mtkd.signals.readers.raw import read_streams

N_RECORDS = 40
VALUES = np.random.default_rng(0).normal(size=N_RECORDS * 64)


def write(path: Path, onsets_s: list[float], record_s: float = 1.0, kind: str = "EDF+C") -> Path:
    """A file whose records tell these times."""
    signal = edfio.EdfSignal(VALUES, 64 / record_s, label="Fz", physical_dimension="uV", physical_range=(-9, 9))
    notes = [edfio.EdfAnnotation(0, None, "room for times of any length")]
    edfio.Edf([signal], annotations=notes, data_record_duration=record_s).write(path)
    header, content = read_header(path), bytearray(path.read_bytes())
    (row,) = (index for index, each in enumerate(header.signals) if each.name == "EDF Annotations")
    record = 2 * sum(each.n_samples for each in header.signals)
    before = 2 * sum(each.n_samples for each in header.signals[:row])
    for number, onset_s in enumerate(onsets_s):
        at = header.n_bytes + number * record + before
        text = f"+{onset_s:.6f}".encode() + b"\x14\x14\x00"
        assert len(text) <= 2 * header.signals[row].n_samples
        content[at : at + len(text)] = text
    content[192:197] = kind.encode()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("record_s", [0.2, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("behind", [1, 2, 3, 9, 20])
def test_a_record_that_is_missing_is_told_wherever_it_is(tmp_path, record_s, behind):
    onsets = [(number + (number >= N_RECORDS - behind)) * record_s for number in range(N_RECORDS)]
    path = write(tmp_path / "x.edf", onsets, record_s)
    told = rf"^{re.escape(str(path))}: record {N_RECORDS - behind + 1} begins {record_s:.1f} s later than its place"
    with pytest.raises(MtkdError, match=told):
        read_header(path)


@pytest.mark.parametrize("behind", [1, 2])
def test_a_last_record_that_is_late_by_itself_is_no_gap(tmp_path, behind):
    onsets = [number + 0.9 * (number == N_RECORDS - behind) for number in range(N_RECORDS)]
    assert read_header(write(tmp_path / "x.edf", onsets)).n_records == N_RECORDS


@settings(max_examples=30)
@given(
    st.sampled_from([0.2, 1.0, 5.0]), st.floats(0, 1e5), st.sampled_from([0.0, 0.002, 0.3, 60.0]), st.integers(1, 39)
)
def test_what_may_have_gaps_is_read_where_it_has_none(tmp_path_factory, record_s, first_s, gap_s, at):
    folder = tmp_path_factory.mktemp("plus")
    onsets = [first_s + number * record_s + gap_s * (number >= at) for number in range(N_RECORDS)]
    path = write(folder / "x.edf", onsets, record_s, "EDF+D")
    if gap_s:
        told = rf"^{path}: a discontinuous recording \(EDF\+D\), whose gaps would be closed: record {at + 1} begins"
        with pytest.raises(MtkdError, match=told):
            read_header(path)
        return
    stream = read_streams(path, Table(reader="table", folder="x", channels={"*": "eeg"}), {}, {})["eeg"]
    np.testing.assert_allclose(stream.read(0, stream.n_times)[0], 1e-6 * VALUES, atol=1e-9)
