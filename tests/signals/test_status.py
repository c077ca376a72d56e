"""What a BDF's Status channel says, on real files and against MNE."""

import mne
import numpy as np
import pytest

from mtkd.errors import MtkdError
from mtkd.signals.readers import deap_bdf, mahnob
from mtkd.signals.readers.edf_header import Header, read_header

EVENTS = {"test_bdf_stim_channel.bdf": 9, "test.bdf": 1}


def codes_of(header: Header) -> np.ndarray:
    (index,) = (i for i, signal in enumerate(header.signals) if signal.name == "Status")
    return header.low_bytes(index)


@pytest.mark.parametrize("name", EVENTS)
def test_the_lowest_byte_agrees_with_mne_on_real_files(shared_data, name):
    path = shared_data / "biosemi" / name
    codes = codes_of(read_header(path))
    raw = mne.io.read_raw_bdf(path, preload=True, verbose="error")
    np.testing.assert_array_equal(codes, raw.get_data(["Status"])[0].astype(int) & 0xFF)
    found = mne.find_events(raw, "Status", mask=0xFF, mask_type="and", shortest_event=1, verbose="error")
    assert len(found) == EVENTS[name]
    np.testing.assert_array_equal(codes[found[:, 0]], found[:, 2])
    assert (codes[found[:, 0] - 1] == 0).all()


def test_real_files_hold_the_codes_that_are_known_of_them(shared_data):
    nine = codes_of(read_header(shared_data / "biosemi" / "test_bdf_stim_channel.bdf"))
    one = codes_of(read_header(shared_data / "biosemi" / "test.bdf"))
    assert set(nine.tolist()) == {0, 1, 2, 4}
    assert set(one.tolist()) == {0, 128}


@pytest.mark.parametrize("name", EVENTS)
def test_starts_of_videos_and_ends_of_films_are_where_mne_finds_them(shared_data, name):
    path = shared_data / "biosemi" / name
    raw = mne.io.read_raw_bdf(path, preload=True, verbose="error")
    found = mne.find_events(raw, "Status", mask=0xFF, mask_type="and", shortest_event=1, verbose="error")
    sfreq = raw.info["sfreq"]
    assert mahnob.status_marks(read_header(path)) == (found[:, 0] / sfreq).tolist()
    if name != "test.bdf":
        videos = found[found[:, 2] == deap_bdf.VIDEO, 0]
        assert len(videos) > 0
        assert deap_bdf.video_starts(read_header(path)) == (videos / sfreq).tolist()


def test_a_file_that_is_cut_after_its_header_was_read_is_refused_and_ends_no_process(shared_data, tmp_path):
    path = tmp_path / "cut.bdf"
    path.write_bytes((shared_data / "biosemi" / "test_bdf_stim_channel.bdf").read_bytes())
    header = read_header(path)
    with path.open("r+b") as file:
        file.truncate(header.n_bytes + 1000)
    with pytest.raises(MtkdError, match=f"^{path}: truncated while it was read"):
        codes_of(header)
