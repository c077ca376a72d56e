"""What the header of an EDF file must not say."""

from fractions import Fraction
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd.errors import MtkdError
from mtkd.signals.readers.edf_header import Header, Signal, read_header


def refused(path: Path) -> str:
    with pytest.raises(MtkdError) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def patched(tmp_path: Path, at: int, field: str, name: str = "a_rest.edf") -> Path:
    """A good file of one channel with one header field written anew."""
    values = np.random.default_rng(0).uniform(10, 90, 640)
    edfio.Edf([edfio.EdfSignal(values, 64, label="EEG Fz", physical_dimension="uV", physical_range=(0, 100))]).write(
        tmp_path / "good.edf"
    )
    content = bytearray((tmp_path / "good.edf").read_bytes())
    content[at : at + len(field)] = field.encode()
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_what_a_header_must_not_say(tmp_path):
    # after the first 256 bytes, of one signal: label 16, transducer 80, dimension 8, then the ranges of 8 each
    fields = {
        "duration of a record": (244, "0       "),
        "number of records": (236, "0       "),
        "never closed": (236, "-1      "),
        "physical minimum": (256 + 104, "100     "),  # that of the maximum
        "physical maximum": (256 + 112, "inf     "),
        "beyond single precision": (256 + 112, "1e44    "),
        "digital minimum": (256 + 120, "32767   "),
        "no number": (256 + 128, "nan     "),
        "no samples": (256 + 216, "0       "),
        "samples below zero": (256 + 216, "-5      "),
    }
    for what, (at, field) in fields.items():
        said = refused(patched(tmp_path, at, field))
        assert said.endswith("not an EDF or BDF file, its header makes no sense"), what


def test_what_may_have_gaps_and_tells_no_times_is_refused(tmp_path):
    said = refused(patched(tmp_path, 192, "EDF+D"))
    assert said.endswith("(EDF+D), whose gaps would be closed: not every record tells its time")


def test_a_name_that_tells_another_format_is_refused(tmp_path):
    """MNE would take three bytes for a sample that has two, and find numbers in it."""
    said = refused(patched(tmp_path, 0, "", "a_rest.bdf"))
    assert said.endswith("EDF by its content, so its name must end with .edf")


def test_records_that_the_header_does_not_promise_are_refused(tmp_path):
    """MNE would read them, and the last four seconds would be others than the recording's."""
    path = patched(tmp_path, 0, "")
    whole = path.read_bytes()
    record = 64 * 2
    path.write_bytes(whole + bytes(record - 1))  # less than a record is not read by anyone
    assert read_header(path).n_records == 10
    path.write_bytes(whole + bytes(6 * record))
    assert refused(path).endswith("holds 6 records more than the 10 its header promises")


@given(st.integers(1, 1_000_000), st.integers(1, 10_000))
def test_a_rate_is_the_one_that_is_meant_whatever_a_record_lasts(n_samples, record_cs):
    """175 samples in 0.7 s are 250 Hz, where floats divide to 250.00000000000003."""
    signal = Signal("x", "uV", 0, 1, 0, 1, n_samples)
    found = Header(Path("x.edf"), 2, 0, 1, record_cs / 100, [signal]).sfreq(signal)
    assert found == float(Fraction(100 * n_samples, record_cs))
