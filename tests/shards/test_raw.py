"""Recordings that the stage ``shards`` makes itself."""

import pytest

from mtkd.errors import MtkdError
from mtkd.shards.raw import make_raw, raw_folder, recordings


def test_a_simulated_study_writes_its_recordings_once(make_study, tmp_path, capsys):
    made = make_study("data.folder=null", "data.simulate={n_subjects: 2, n_trials: 2}", workspace=tmp_path)
    with pytest.raises(
        MtkdError, match=r"raw/simulated-\w+: not there yet; run `mtkd shards` first, or name the data.folder"
    ):
        raw_folder(made)  # no other stage simulates
    assert list(tmp_path.iterdir()) == []
    make_raw(made)
    folder = raw_folder(made)
    assert folder.is_relative_to(tmp_path / "raw")
    assert [file.path for file in recordings(made).files] == [folder / "s01.dat", folder / "s02.dat"]
    written = (folder / "s01.dat").stat().st_mtime_ns
    capsys.readouterr()
    make_raw(made)
    assert raw_folder(made) == folder
    assert (folder / "s01.dat").stat().st_mtime_ns == written
    assert capsys.readouterr().out == ""
    other = make_study("data.folder=null", "data.simulate={n_subjects: 2, n_trials: 2, seed: 1}", workspace=tmp_path)
    make_raw(other)
    assert raw_folder(other) != folder
