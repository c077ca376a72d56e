"""BIDS' inheritance: a table holds for the recordings whose entities it has, and for no other."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Bids
from mtkd.errors import MtkdError
from mtkd.signals.readers import beside, find, read
from mtkd.signals.readers.sidecars import root_of, sidecars

CHOICES = {"sub": "1", "ses": "a", "task": "x", "run": "12", "acq": "b"}
entities = st.fixed_dictionaries({name: st.sampled_from([None, *values]) for name, values in CHOICES.items()})


def name_of(found: dict[str, str | None], ending: str) -> str:
    return "_".join([*(f"{name}-{value}" for name, value in found.items() if value), ending])


@settings(max_examples=60, deadline=None)
@given(entities.filter(lambda own: own["sub"]), st.lists(entities, max_size=4), st.data())
def test_a_table_holds_if_and_only_if_its_entities_are_the_recordings(tmp_path_factory, own, others, data):
    root = tmp_path_factory.mktemp("bids")
    folders = [root / "sub-1" / "eeg", root / "sub-1", root]
    folders[0].mkdir(parents=True)
    placed = {data.draw(st.sampled_from(folders)) / name_of(other, "events.tsv"): other for other in others}
    for path in placed:
        path.touch()
    found = sidecars(folders[0] / name_of(own, "eeg.edf"), root, "events.tsv")
    fitting = {path for path, other in placed.items() if all(value in (None, own[k]) for k, value in other.items())}
    assert set(found) == fitting
    ranks = [(-folders.index(path.parent), path.name.count("_")) for path in found]
    assert ranks == sorted(ranks)  # the nearest last, and there the one that says most


@pytest.mark.parametrize("stem", ["sub-01_task-x_run-2", "sub-01_task-x_acq-b"])
def test_the_events_of_another_run_are_not_those_of_a_recording_without_any(bids_root, stem):
    (folder,) = {path.parent for path in bids_root.rglob("*_eeg.edf")}
    (folder / f"{stem}_eeg.edf").write_bytes((folder / "sub-01_task-x_eeg.edf").read_bytes())
    for ending in ("events.tsv", "channels.tsv"):
        (folder / f"sub-01_task-x_{ending}").rename(folder / f"{stem}_{ending}")
    data = Bids(reader="bids", folder="x")
    found = find(bids_root, data)
    assert [file.name for file in found.files] == [stem]
    assert found.left_out == {"sub-01_task-x_eeg.edf": "no events.tsv holds for its name"}
    assert len(list(read(found.files[0], data))) == 1


def test_a_recording_in_use_has_the_table_of_channels_that_lies_further_up(bids_root):
    (path,) = bids_root.rglob("*_eeg.edf")
    table = path.with_name("sub-01_task-x_channels.tsv")
    table.write_text(table.read_text().replace("good", "bad"))
    data = Bids(reader="bids", folder="x")
    told = beside(path, data)
    assert told[1] == {"Fz": "channels.tsv calls it bad"}
    table.rename(bids_root / "task-x_channels.tsv")
    assert beside(path, data) == told


def test_a_recording_outside_any_data_set_has_what_lies_beside_it():
    assert root_of(Path("/nowhere/x/sub-01_eeg.edf")) == Path("/nowhere/x")


@pytest.mark.parametrize("name", ["eeg.edf", "events.tsv", "channels.tsv", "physio.tsv.gz", "physio.json"])
def test_a_link_to_what_was_not_fetched_is_refused(bids_root, name):
    """As git-annex leaves them: such a recording must not be missing without a word."""
    folder = bids_root / "sub-01" / "eeg"
    if name == "physio.json":
        (folder / "sub-01_task-x_physio.tsv.gz").write_bytes(b"")
    path = folder / f"sub-01_task-x_{name}"
    path.unlink(missing_ok=True)
    path.symlink_to("../../.git/annex/objects/nothing")
    with pytest.raises(MtkdError, match=f"^{path}: is no file, or a link to one that was not fetched$"):
        find(bids_root, Bids(reader="bids", folder="x"))


@pytest.mark.parametrize("changes", [{"exclude": ["02"]}, {"subjects": ["01"]}])
def test_what_the_study_does_not_ask_for_need_not_be_fetched(bids_root, changes):
    folder = bids_root / "sub-02" / "eeg"
    folder.mkdir(parents=True)
    for name in ("sub-02_task-x_eeg.edf", "sub-02_task-x_events.tsv"):
        (folder / name).symlink_to("../nothing")
    (bids_root / "sub-01" / "eeg" / "sub-01_task-z_eeg.edf").symlink_to("../nothing")
    (bids_root / "task-y_events.tsv").symlink_to("nothing")
    found = find(bids_root, Bids(reader="bids", folder="x", task="x", **changes))
    assert [file.name for file in found.files] == ["sub-01_task-x"]
    with pytest.raises(MtkdError, match="is no file, or a link to one that was not fetched"):
        find(bids_root, Bids(reader="bids", folder="x", **changes))
