"""Files in MNE's many formats: what their numbers mean, what lies elsewhere, and what MNE does not survive."""

import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from mtkd.config import Table
from mtkd.errors import MtkdError
from mtkd.signals.readers import formats
from mtkd.signals.readers.raw import read_streams

HEADER = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
Codepage=UTF-8
{files}
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={n}
SamplingInterval=4000
[Binary Infos]
BinaryFormat=IEEE_FLOAT_32
[Channel Infos]
{channels}
"""
BESIDE = "DataFile=a.eeg\nMarkerFile=a.vmrk"


def brainvision(folder: Path, units: dict[str, str], files: str = BESIDE, value: float = 5.0) -> Path:
    """A second of channels at 250 Hz, all of one value but for a wiggle."""
    lines = "\n".join(f"Ch{n}={name},,1,{unit}" for n, (name, unit) in enumerate(units.items(), start=1))
    path = folder / "a.vhdr"
    path.write_text(HEADER.format(files=files, n=len(units), channels=lines), encoding="utf-8")
    path.with_suffix(".vmrk").write_text("Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\n")
    values = np.full((250, len(units)), value) * (1 + 1e-3 * np.sin(np.arange(250))[:, None])
    values.astype("<f4").tofile(folder / "a.eeg")
    return path


def first(path: Path, kind: str, **changes) -> float:
    """What the first channel of a modality starts with."""
    data = Table(**{"reader": "table", "folder": "x", "channels": {"x": kind}} | changes)
    return float(read_streams(path, data, {}, {})[kind].read(0, 1)[0, 0])


@pytest.mark.parametrize(
    ("kind", "said", "corrected", "expected"),
    [
        ("eeg", "µV", None, 5e-6),
        ("eeg", "uV", None, 5e-6),
        ("eeg", "", None, 5e-6),  # the format's own
        ("eeg", "mV", None, 5e-3),
        ("eeg", "nV", None, 5e-9),
        ("emg", "µV", "nV", 5e-9),
        ("ecg", "V", None, 5.0),
        ("eeg", "µV", "uV", 5e-6),
        ("eeg", "µV", "mV", 5e-3),
        ("eeg", "mV", "uV", 5e-6),
        ("eeg", "n/a", "uV", 5e-6),
        ("eda", "µS", None, 5e-6),
        ("eda", "uS", None, 5e-6),
        ("eda", "nS", None, 5e-9),
        ("eda", "kOhm", None, None),  # 5 kilo-ohm: more than 100 microsiemens
        ("eda", "µS", "nS", 5e-9),
        ("eda", "n/a", "uS", 5e-6),
        ("temp", "C", None, 5.0),
        ("temp", "n/a", None, 5.0),
        ("resp", "ARU", None, 5.0),
    ],
)
def test_a_file_of_brainvision_is_in_the_unit_of_its_header_or_the_studys(tmp_path, kind, said, corrected, expected):
    found = first(brainvision(tmp_path, {"x": said}), kind, units={"x": corrected} if corrected else {})
    assert found == pytest.approx(expected, rel=1e-5) if expected else np.isnan(found)


@pytest.mark.parametrize("more", ["", ",a comment"])
@pytest.mark.parametrize("blanks", [" {}", "{} ", "\t{}", " {} "])
@pytest.mark.parametrize(("kind", "unit"), [("ecg", "µV"), ("ecg", "mV"), ("eda", "uS"), ("resp", "nV"), ("ecg", "")])
def test_a_blank_beside_a_unit_changes_nothing(tmp_path, kind, unit, blanks, more):
    """MNE knows no unit with a blank, and leaves the numbers alone."""
    plain, blank = (first(brainvision(tmp_path, {"x": said + more}), kind) for said in (unit, blanks.format(unit)))
    assert blank == pytest.approx(plain, rel=1e-12)


def test_a_difference_is_in_one_unit_where_a_blank_stands_beside_one_of_them(tmp_path):
    path = brainvision(tmp_path, {"x": "µV", "y": " µV"})
    path.write_text(path.read_text(encoding="utf-8").replace("x,,1,", "x,,3,"), encoding="utf-8")
    found = first(path, "ecg", bipolar={"x-y": ["x", "y"]}, channels={"x-y": "ecg"})
    assert found == pytest.approx(3 * 5e-6 - 5e-6, rel=1e-5)


@pytest.mark.parametrize(("kind", "said"), [("eeg", "n/a"), ("eda", "n/a"), ("eda", "µV"), ("ecg", "BPM")])
def test_a_unit_that_is_none_of_its_modality_is_refused(tmp_path, kind, said):
    path = brainvision(tmp_path, {"x": said})
    with pytest.raises(
        MtkdError, match=rf"^{path}: x is in the unit '{'' if said == 'n/a' else said}'; known of {kind}"
    ):
        first(path, kind)


@pytest.mark.parametrize("place", ["sub/v.eeg", "../v.eeg", "{absolute}"])
def test_samples_in_another_folder_are_refused(tmp_path, place):
    folder, absolute = tmp_path / "data", tmp_path / "elsewhere.eeg"
    (folder / "sub").mkdir(parents=True)
    name = place.format(absolute=absolute)
    path = brainvision(folder, {"x": "µV"}, f"DataFile={name}\nMarkerFile=a.vmrk")
    (folder / "a.eeg").rename(folder / name)
    with pytest.raises(MtkdError, match=rf"^{path}: its samples are in .*, which is not beside it"):
        first(path, "eeg")


def write_eeglab(path: Path, names: tuple[str, ...] = ("Fz", "GSR"), **changes) -> Path:
    """Ten seconds of two channels as EEGLAB writes them."""
    row = np.linspace(1, 40, 640)
    eeg = {name: [] for name in ("event", "urevent", "epoch", "icawinv", "icaweights", "icasphere")}
    eeg |= {"nbchan": 2.0, "srate": 64.0, "pnts": 640.0, "trials": 1.0, "xmin": 0.0, "xmax": 10.0, "setname": "x"}
    eeg |= {"data": np.stack([row, row]), "chanlocs": np.array([(name,) for name in names], [("labels", object)])}
    scipy.io.savemat(path, {"EEG": eeg | changes}, appendmat=False)
    return path


@pytest.fixture
def eeglab(tmp_path) -> Path:
    return write_eeglab(tmp_path / "a.set")


def test_channels_that_share_a_name_are_refused_and_not_numbered(tmp_path):
    path = write_eeglab(tmp_path / "b.set", ("Cz", "Cz"))
    with pytest.raises(MtkdError, match=f"^{path}: two channels share a name, 'Cz'$"):
        formats.open_raw(path)
    assert formats.open_raw(write_eeglab(path, ("Cz-0", "Cz-1"))).ch_names == ["Cz-0", "Cz-1"]


def test_samples_beside_an_eeglab_file_are_as_many_as_it_says(tmp_path):
    path = write_eeglab(tmp_path / "a.set", data="a.fdt")
    samples = np.tile(np.linspace(1, 40, 640, dtype="<f4")[:, None], (1, 2))
    samples.tofile(tmp_path / "a.fdt")
    assert first(path, "eeg", channels={"Fz": "eeg", "GSR": "ignore"}) == pytest.approx(1e-6)
    for changed, n in ((np.vstack([samples, samples[:1]]), 641), (samples[:300], 300)):
        changed.tofile(tmp_path / "a.fdt")
        with pytest.raises(
            MtkdError, match=rf"^{tmp_path}/a\.fdt: holds {n} samples, not the 640 that a\.set promises$"
        ):
            formats.open_raw(path)


def test_a_file_on_which_mne_crashes_is_refused(eeglab, monkeypatch):
    assert first(eeglab, "eeg", channels={"Fz": "eeg", "GSR": "ignore"}) == pytest.approx(1e-6)
    content = bytearray(eeglab.read_bytes())
    content[409] = 117  # a number type that there is not
    eeglab.write_bytes(content)
    with pytest.raises(MtkdError, match=rf"^{eeglab}: "):  # SciPy reads foreign memory here: it crashes, or not
        first(eeglab, "eeg")
    monkeypatch.setattr(formats, "_PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(MtkdError, match=r"damaged or foreign file, MNE's reader crashes on it \(SIGSEGV\)$"):
        first(eeglab, "eeg")


def test_a_file_with_which_mne_comes_to_no_end_is_refused(eeglab, monkeypatch):
    monkeypatch.setattr(formats, "_SECONDS", 1)
    monkeypatch.setattr(formats, "_PROBE", "while True: pass")
    started = time.perf_counter()
    with pytest.raises(MtkdError, match=rf"^{eeglab}: damaged or foreign file, MNE comes to no end with it$"):
        first(eeglab, "eeg")
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("suffix", [".set", ".fif"])
def test_foreign_bytes_are_refused_in_one_sentence(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"no recording " * 999)
    with pytest.raises(MtkdError) as caught:
        first(path, "eeg")
    assert str(caught.value).startswith(f"{path}: not readable by MNE (")
    assert "\n" not in str(caught.value)


def test_units_are_those_of_the_section_of_channels(tmp_path):
    """Other sections have lines of the same names: coordinates would pass for channels."""
    path = brainvision(tmp_path, {"x": "mV"})
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[Channel Infos]", "[Coordinates]\nCh1=1,90,45\n[Channel Infos]"), encoding="utf-8")
    for units in ({}, {"x": "mV"}):
        assert first(path, "eeg", units=units) == pytest.approx(5e-3)


def test_a_header_of_channels_without_end_is_refused_at_once(tmp_path):
    path = brainvision(tmp_path, {"x": "uV"})
    path.write_text(path.read_text(encoding="utf-8").replace("NumberOfChannels=1", "NumberOfChannels=100000000"))
    with pytest.raises(MtkdError, match=rf"^{path}: tells of more than 4096 channels$"):
        first(path, "eeg")
