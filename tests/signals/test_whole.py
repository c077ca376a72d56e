"""Files that were cut, or whose parts are not where their times say: MNE would read them as others."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.errors import MtkdError
from mtkd.signals.readers.edf_header import Header, read_header
from mtkd.signals.readers.formats import open_raw
from mtkd.signals.readers.whole import refuse_cut

N_TIMES = 640


@pytest.fixture(scope="module")
def fif(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fif") / "x_raw.fif"
    data = np.random.default_rng(0).normal(0, 1e-5, (2, N_TIMES))
    raw = mne.io.RawArray(data, mne.create_info(2, 128.0, "eeg"), verbose="error")
    raw.save(path, buffer_size_sec=1.0, verbose="error")
    return path


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_cut_fif_is_refused_or_whole(fif, data):
    content = fif.read_bytes()
    boundary = st.sampled_from(range(len(content) - 2 * 128 * 2 * 4 - 200, len(content), 4))
    at = data.draw(st.integers(0, len(content)) | boundary)
    path = fif.with_name("cut_raw.fif")
    path.write_bytes(content[:at])
    try:
        n_times = mne.io.read_raw(path, preload=False, verbose="error").n_times
        refuse_cut(path, mne.io.read_raw(path, preload=False, verbose="error"))
    except Exception:  # MNE's own, of which ``open_raw`` makes ours, or ours
        return
    assert n_times == N_TIMES


def test_a_fif_that_ends_between_two_buffers_is_refused(fif):
    """Where a tag ends, nothing is odd but that the block is never closed."""
    content, path = fif.read_bytes(), fif.with_name("between_raw.fif")
    refused = 0
    for at in range(len(content) - 16 - 16 * 8 - 3 * (16 + 2 * 128 * 4), len(content) - 200, 4):
        path.write_bytes(content[:at])
        try:
            raw = mne.io.read_raw(path, preload=False, verbose="error")
        except Exception:
            continue
        if raw.n_times < N_TIMES:
            with pytest.raises(MtkdError, match=f"^{path}: truncated, it ends within a block"):
                refuse_cut(path, raw)
            refused += 1
    assert refused > 0  # else MNE has learned it


def test_a_packed_fif_is_what_was_packed_or_refused(fif):
    path = fif.with_name("x_raw.fif.gz")
    packed = gzip.compress(fif.read_bytes())
    path.write_bytes(packed)
    assert open_raw(path).n_times == N_TIMES
    for at, told in ((len(packed) - 6, "damaged"), (len(packed) // 2, "")):  # its checksum, or the samples
        path.write_bytes(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :])
        with pytest.raises(MtkdError, match=f"^{path}: {told}"):
            open_raw(path)


def brainvision(
    folder: Path, points: str = "", cut: int = 0, orientation: str = "MULTIPLEXED", more: bytes = b""
) -> Path:
    header = (
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=x.eeg\n"
        f"DataFormat=BINARY\nDataOrientation={orientation}\nNumberOfChannels=2\n{points}SamplingInterval=7812.5\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=Fz,,0.1,µV\nCh2=Cz,,0.1,µV\n"
    )
    (folder / "x.vhdr").write_text(header, encoding="utf-8")
    content = np.arange(2 * N_TIMES, dtype="<i2").tobytes()
    (folder / "x.eeg").write_bytes(content[: len(content) - cut] + more)
    return folder / "x.vhdr"


def test_a_cut_brainvision_file_is_refused(tmp_path):
    assert open_raw(brainvision(tmp_path)).n_times == N_TIMES
    promised = f"DataPoints={N_TIMES}\n"
    assert open_raw(brainvision(tmp_path, promised)).n_times == N_TIMES
    for points, cut, told in (
        ("", 3, "its data are 2557 bytes, and a sample 4"),
        (promised, 3, f"samples of the {N_TIMES} it promises"),
        (promised, 400, f"its data hold {N_TIMES - 100} samples of the {N_TIMES} it promises"),
    ):
        path = brainvision(tmp_path, points, cut)
        with pytest.raises(MtkdError, match=f"^{path}: truncated, .*{told}"):
            open_raw(path)


def test_a_brainvision_file_that_holds_more_than_it_promises(tmp_path):
    """Behind samples that alternate it does no harm; where channels lie one behind the other it would mix them."""
    promised = f"DataPoints={N_TIMES}\n"
    assert open_raw(brainvision(tmp_path, promised, more=b"\0")).n_times == N_TIMES
    assert open_raw(brainvision(tmp_path, promised, orientation="VECTORIZED")).n_times == N_TIMES
    for points, cut, more, told in (
        (promised, 0, bytes(4), f"{N_TIMES + 1} samples of each channel, .* is {N_TIMES}$"),
        ("", 400, b"", f"{N_TIMES - 100} samples of each channel, .* is not told$"),
    ):
        path = brainvision(tmp_path, points, cut, "VECTORIZED", more)
        with pytest.raises(MtkdError, match=f"^{path}: its data hold {told}"):
            open_raw(path)
    path = brainvision(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "[Comment]\nDataPoints = 99999\n", encoding="utf-8")
    assert open_raw(path).n_times == N_TIMES


def test_blank_lines_of_a_header_cost_no_time(tmp_path):
    path = brainvision(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "\n" * 200_000, encoding="utf-8")
    assert open_raw(path).n_times == N_TIMES  # a regular expression took hours


def test_the_data_of_a_brainvision_file_are_not_its_header(tmp_path):
    path = brainvision(tmp_path).with_suffix(".eeg")
    with pytest.raises(MtkdError, match=r"not readable by MNE .*; x\.vhdr is to be named$"):
        open_raw(path)


def retimed(path: Path, told: Callable[[int], str]) -> Header:
    """The file with the times that its records shall tell."""
    header = read_header(path)
    tell(header, told)
    return header


def tell(header: Header, told: Callable[[int], str]) -> None:
    (row,) = (index for index, signal in enumerate(header.signals) if signal.name == "EDF Annotations")
    record = sum(signal.n_samples for signal in header.signals) * 2
    before = sum(signal.n_samples for signal in header.signals[:row]) * 2
    content = bytearray(header.path.read_bytes())
    for number in range(header.n_records):
        at = header.n_bytes + number * record + before
        text = told(number).encode() + b"\x14\x14\x00"
        content[at : at + len(text)] = text
    header.path.write_bytes(content)


@pytest.fixture
def edf(shared_data, tmp_path) -> Path:
    """A real recording of one second a record, of which its header says that it has no gap."""
    path = tmp_path / "x.edf"
    shutil.copyfile(next((shared_data / "eegmat").glob("*_1.edf")), path)
    return path


@pytest.mark.parametrize("gap_s", [3, 60])
@pytest.mark.parametrize("first_s", [0, 0.5, 7200])
def test_a_gap_that_only_the_records_tell_of_is_refused(edf, gap_s, first_s):
    half = retimed(edf, lambda number: f"+{first_s + number:g}").n_records // 2
    retimed(edf, lambda number: f"+{first_s + number + gap_s * (number >= half):g}")
    with pytest.raises(MtkdError, match=rf"^{edf}: record {half + 1} begins {gap_s:.1f} s later than its place"):
        read_header(edf)


def test_gaps_shorter_than_a_second_that_stay_are_refused(edf):
    retimed(edf, lambda number: f"+{number + 0.95 * (number >= 50) + 0.95 * (number >= 90):g}")
    with pytest.raises(MtkdError, match=rf"^{edf}: record 51 begins 1\.0 s later than its place"):
        read_header(edf)


@pytest.mark.parametrize(
    "told",
    [
        lambda number: "+0",  # no time at all
        lambda number: f"+{number * 1.002:.3f}",  # another clock
        lambda number: f"+{round(number + 0.4)}",
        lambda number: f"+{number + 0.9 * (number % 5 == 0):g}",  # some records are late by themselves
        lambda number: f"+{number:g}" if number % 7 else "nothing",
        lambda number: f"+{number:g}" if number % 7 else f"+{number + 5.5:g}\x14Eyes",  # an event stands first
    ],
)
def test_clocks_that_are_only_poor_are_no_gaps(edf, told):
    assert retimed(edf, told).n_records == read_header(edf).n_records


@pytest.fixture(scope="module", params=[0.5, 1.0, 5.0])
def timed(request, tmp_path_factory) -> Header:
    """Three hundred records, of which each tells when it begins."""
    path, record_s = tmp_path_factory.mktemp("timed") / "x.edf", request.param
    values = np.random.default_rng(0).normal(size=round(300 * 8 * record_s))
    note = edfio.EdfAnnotation(0, None, "start")
    edfio.Edf([edfio.EdfSignal(values, 8)], annotations=[note], data_record_duration=record_s).write(path)
    return read_header(path)


@settings(max_examples=40)
@given(st.integers(21, 300), st.integers(10, 250))
def test_gaps_are_told_from_a_clock_that_is_late_by_as_much(timed, gap_cs, every):
    """Of 0.21 s in each 22 records of a second, they add up to no more than a clock may be late."""
    tell(timed, lambda number: f"+{number * timed.record_s + gap_cs / 100 * (number // every):.3f}")
    with pytest.raises(MtkdError, match=rf"^{timed.path}: record \d+ begins .* s later than its place"):
        read_header(timed.path)


@settings(max_examples=40)
@given(st.floats(-0.01, 0.0099), st.integers(1, 5))
def test_a_clock_that_is_late_by_little_at_a_time_has_no_gaps(timed, drift, n_digits):
    tell(timed, lambda number: f"+{number * (1 + drift) * timed.record_s:.{n_digits}f}")
    assert read_header(timed.path).n_records == timed.n_records
