"""What ``mtkd inspect`` tells of a shard set."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.shards import inspect
from mtkd.shards.build import open_shards, run
from mtkd.shards.magnitudes import magnitude
from mtkd.shards.picture import draw_trial


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
    shares = [[line for line in out.splitlines() if "high valence" in line and "%" in line] for out in (before, after)]
    assert shares[0] != shares[1]
    assert all("0.0%" in line for line in shares[1])


def test_another_trial_is_drawn_and_an_unknown_one_refused(shown, capsys):
    chosen = shown.model_copy(update={"inspect": shown.inspect.model_copy(update={"trial": "s03_t02"})})
    assert inspect.run(chosen).name == "s03_t02.png"
    unknown = shown.model_copy(update={"inspect": shown.inspect.model_copy(update={"trial": "nobody"})})
    with pytest.raises(MtkdError, match=r"^inspect\.trial = nobody: \S+ has no such trial; the first is s01_t01$"):
        inspect.run(unknown)


def with_ratings(made: Study, limit: float, name: str = "valence") -> Study:
    return made.model_copy(update={"labels": {name: limit}})


def test_labels_that_leave_nothing_to_learn_are_told(shown, study, capsys):
    inspect.run(with_ratings(shown, 5.0, "joy"))
    said = capsys.readouterr().out
    assert "labels: no trial has a rating of joy; there are arousal (" in said
    assert "valence (" in said
    inspect.run(with_ratings(shown, 9.0))
    assert "labels: no trial is of the class 'high valence'; ratings are arousal (" in capsys.readouterr().out
    run(study("labels={joy: 5}", name="sad"))
    assert "labels: no trial has a rating of joy" in capsys.readouterr().out


def test_names_that_look_like_markup_are_told_as_they_are(shown, capsys, monkeypatch):
    told = {"rejected": {"[/x]": {"[red]": "[/b]"}}, "left_out": {"a [b]": "[/]"}}
    unit, _ = open_shards(shown)
    manifest = unit.manifest().model_copy(update={"measured": told})
    monkeypatch.setattr(type(unit), "manifest", lambda _: manifest)
    inspect.run(shown.model_copy(update={"classes": ["[/a]", "[b]", "c", "d"]}))
    out = capsys.readouterr().out
    assert "rejected: [/x], [red]: [/b]" in out
    assert "left out: a [b]: [/]" in out
    assert "[/a]" in out
    monkeypatch.setattr(type(unit), "manifest", lambda _: manifest.model_copy(update={"measured": {"rejected": []}}))
    with pytest.raises(MtkdError, match="does not tell what was rejected"):
        inspect.run(shown)


@pytest.mark.parametrize(("factor", "likely"), [(1.0, True), (1e6, False), (1e-6, False)])
def test_values_that_no_body_gives_are_told(tmp_path, make_set, make_trial, factor, likely):
    subject, span, signals = make_trial("t01", 60)
    random = np.random.default_rng(0)
    for name, level, spread in (("eeg", 0.0, 1e-5), ("eda", 5e-6, 1e-7)):
        noise = level + spread * random.standard_normal(signals[name].data.shape)
        signals[name] = replace(
            signals[name], data=(factor * noise).astype(np.float32), valid=signals[name].valid | True
        )
    shards = make_set(tmp_path / "set", {"x.tar": [(subject, span, signals)]})
    for name in ("eeg", "eda"):
        found = magnitude(shards, name)
        assert found.is_likely == likely
    if likely:
        assert [magnitude(shards, name).in_words[3] for name in ("eeg", "eda")] == ["µV", "µS"]


@pytest.mark.parametrize(("factor", "told"), [(1.0, False), (20.0, False), (1e6, True)])
def test_trials_in_other_units_are_told(tmp_path, make_set, make_trial, factor, told):
    trials = []
    for name, scale in (("t01", 1.0), ("t02", factor)):
        subject, span, signals = make_trial(name, 60, {"resp": 16.0})
        data = (scale * signals["resp"].data).astype(np.float32)
        trials.append((subject, span, {"resp": replace(signals["resp"], data=data)}))
    doubt = magnitude(make_set(tmp_path / "set", {"x.tar": trials}), "resp").doubt
    assert (doubt is not None) == told
    assert not told or "some trials are 1" in doubt


def test_rates_and_phasic_parts_are_not_among_the_values(tmp_path, make_set, make_trial):
    subject, span, signals = make_trial("t01", 60)
    own = signals["eda"]
    level = np.full((1, own.data.shape[1]), 5e-6, np.float32)
    data, on = np.vstack([level, level * 0, level * 0 + 1.2]), np.ones((3, own.valid.shape[1]), bool)
    made = replace(own, data=data, valid=on, ch_names=["GSR tonic", "GSR phasic", "GSR rate"])
    shards = make_set(tmp_path / "set", {"x.tar": [(subject, span, signals | {"eda": made})]})
    assert magnitude(shards, "eda").in_words == ["5", "5", "5", "µS"]
    draw_trial(shards, "s01_t01", tmp_path / "x.png")
    assert imread(tmp_path / "x.png").std() > 0.05
