"""What ``mtkd inspect`` tells of a shard set."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.image import imread

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.shards import inspect
from mtkd.shards.build import open_shards, run


@pytest.fixture
def shown(study: Callable[..., Study], write_deap: Callable[..., None], tmp_path) -> Study:
    """Six trials; of one the skin conductance is off for a while, one is not rated, and one is off throughout."""
    random = np.random.default_rng(0)
    data = 10 * random.normal(size=(3, 40, 5 * 128))
    data[:, 36] = 2e5 + 100 * data[:, 36]
    data[0, 36, 300:] = np.nan
    data[2] = 0
    labels = np.full((3, 4), 7.0)
    labels[1] = np.nan
    write_deap(tmp_path / "raw" / "s02.dat", 2, data=data, labels=labels)
    (tmp_path / "raw" / "s01.mat").write_bytes(b"")
    made = study("windows={window_s: 1, hop_s: 1}", "temporal.patch_s=1", "distill.modalities=[emg, eda, resp, ppg]")
    run(made)
    return made


def test_it_tells_what_is_there_and_what_is_not(shown, capsys):
    path = inspect.run(shown)
    out = " ".join(capsys.readouterr().out.split())
    assert "3 subjects, 6 trials" in out
    assert "1 without a label" in out
    assert "rejected: s02, t03: no sensor gave a signal" in out
    assert "left out: s01.mat: its participant's .dat file is read" in out
    assert path.name == "s01_t01.png"
    assert imread(path).std() > 0.05  # something is drawn


def test_windows_are_rejected_where_no_channel_is_valid(shown):
    _, shards = open_shards(shown)
    found = inspect.rejected_windows(shown, shards)
    off = ~shards.read("s02_t01", "eda.valid.npy").any(axis=0)
    assert off.any()
    assert found["eda"] == (off.sum(), 6 * 4)
    assert found["eeg"] == (0, 6 * 4)


def test_classes_are_those_of_the_labels_as_they_are_now(shown, capsys):
    inspect.run(shown)
    before = capsys.readouterr().out
    inspect.run(shown.model_copy(update={"labels": {"valence": 8.9, "arousal": 5.0}}))
    after = capsys.readouterr().out
    shares = [[line for line in out.splitlines() if "high valence" in line] for out in (before, after)]
    assert shares[0] != shares[1]
    assert all("0.0%" in line for line in shares[1])


def test_another_trial_is_drawn_and_an_unknown_one_refused(shown, capsys):
    chosen = shown.model_copy(update={"inspect": shown.inspect.model_copy(update={"trial": "s03_t02"})})
    assert inspect.run(chosen).name == "s03_t02.png"
    unknown = shown.model_copy(update={"inspect": shown.inspect.model_copy(update={"trial": "nobody"})})
    with pytest.raises(MtkdError, match=r"^inspect\.trial = nobody: \S+ has no such trial; the first is s01_t01$"):
        inspect.run(unknown)
