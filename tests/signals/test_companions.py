"""Files that are read together."""

from pathlib import Path

import pytest

from mtkd.signals.readers.companions import all_of


@pytest.mark.parametrize(
    ("first", "there", "expected"),
    [
        ("a.edf", ["a.eeg", "a.fdt"], []),
        ("a.set", ["a.fdt", "b.fdt"], ["a.fdt"]),
        ("a.fif", ["a-1.fif", "a-2.fif", "a-x.fif", "ab-1.fif"], ["a-1.fif", "a-2.fif"]),
        ("s_split-01_eeg.fif", ["s_split-02_eeg.fif", "t_split-02_eeg.fif"], ["s_split-02_eeg.fif"]),
        ("a.vhdr", ["a.eeg", "other.eeg", "m.vmrk"], ["other.eeg", "m.vmrk"]),
        ("b.vhdr", ["b.eeg"], ["b.eeg"]),
        ("c.vhdr", ["c d.eeg", "c.vmrk"], ["c d.eeg"]),
    ],
)
def test_what_is_read_with_a_file(tmp_path: Path, first: str, there: list[str], expected: list[str]) -> None:
    for name in there:
        (tmp_path / name).touch()
    data = {
        "a.vhdr": "DataFile=other.eeg\r\nMarkerFile=m.vmrk",
        "b.vhdr": "DataFile=$b.eeg",
        "c.vhdr": " datafile = c d.eeg \nMARKERFILE=sub/c.vmrk",  # as MNE takes it, but for the folder
    }.get(first, "")
    (tmp_path / first).write_text(f"Brain Vision Data Exchange Header File\n[Common Infos]\n{data}\n")
    assert [path.name for path in all_of(tmp_path / first)] == [first, *expected]


def test_a_file_that_is_not_there_stands_alone(tmp_path: Path) -> None:
    assert all_of(tmp_path / "none.vhdr") == (tmp_path / "none.vhdr",)
