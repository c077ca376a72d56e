"""A student in use: on recordings without EEG, with sensors missing, cut short."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
import torch
from PIL import Image

from mtkd.deploy import predict
from mtkd.distill.train import load_model, unit_of
from mtkd.shards.build import open_shards
from mtkd.shards.index import write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import preprocess
from mtkd.signals.readers import deap
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Recording, Span
from mtkd.training.fold import folds_of, make_cutter

SFREQ = 128
UNITS = {"zEMG": "uV", "tEMG": "uV", "GSR": "uS", "Resp": "", "Plet": "", "Temp": "degC"}
PERIPHERALS = ["zEMG", "tEMG", "GSR", "Resp", "Plet"]  # what the student hears; it has no temperature


@pytest.fixture(scope="session")
def sensors(uneven_raw: Path) -> dict[str, np.ndarray]:
    """The wearable's channels, in the units of its file."""
    raw = edfio.read_edf(uneven_raw / "wearable.edf")
    return {signal.label: signal.data.copy() for signal in raw.signals}


def write(
    path: Path,
    sensors: dict[str, np.ndarray],
    names: list[str],
    n_secs: int | None = None,
    labels: dict[str, str] | None = None,
) -> Path:
    """An EDF of some channels; ranges stay those of the whole recording, so that cutting it rounds nothing anew."""
    stop = None if n_secs is None else n_secs * SFREQ
    signals = [
        edfio.EdfSignal(
            sensors[name][:stop],
            SFREQ,
            label=(labels or {}).get(name, name),
            physical_dimension=UNITS[name],
            physical_range=(float(np.floor(sensors[name].min())) - 1, float(np.ceil(sensors[name].max())) + 1),
        )
        for name in names
    ]
    edfio.Edf(signals).write(path)
    return path


def rows_of(path: Path) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array(list(csv.reader(file))[1:], float)


@pytest.fixture
def follow(pipeline: Any, mtkd: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """``mtkd predict`` on a recording: how it ended, and the rows it wrote."""

    def call(path: Path, *overrides: str) -> tuple[Any, np.ndarray | None]:
        given = (f"predict.recording={path}", f"predict.output={tmp_path / 'out'}")
        ended = mtkd("predict", pipeline.file, *given, *overrides)
        table = tmp_path / "out" / f"{path.stem}-distilled-prediction.csv"
        return ended, rows_of(table) if table.exists() else None

    return call


@pytest.fixture
def whole(follow: Callable[..., Any], sensors: dict[str, np.ndarray], tmp_path: Path) -> np.ndarray:
    """Answers with all of the student's sensors."""
    ended, rows = follow(write(tmp_path / "whole.edf", sensors, PERIPHERALS))
    assert ended.code == 0, ended.err
    return rows


def test_the_picture_is_one(pipeline: Any) -> None:
    (path,) = (Path(pipeline.study.workspace) / "predict").glob("wearable-*/wearable-distilled-prediction.png")
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width > 800
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 20


def test_what_the_student_does_not_hear_changes_nothing(
    follow: Callable[..., Any], whole: np.ndarray, sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    _, rows = follow(write(tmp_path / "more.edf", sensors, [*PERIPHERALS, "Temp"]))
    assert rows == pytest.approx(whole, abs=1e-6)


def test_the_order_of_channels_does_not_matter(
    follow: Callable[..., Any], whole: np.ndarray, sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    _, rows = follow(write(tmp_path / "turned.edf", sensors, PERIPHERALS[::-1]))
    assert rows == pytest.approx(whole, abs=1e-6)


def test_channels_nobody_asks_for_do_no_harm(
    follow: Callable[..., Any], whole: np.ndarray, sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    _, rows = follow(write(tmp_path / "more.edf", sensors, [*PERIPHERALS, "Temp"], labels={"Temp": "ACC X"}))
    assert rows == pytest.approx(whole, abs=1e-6)


def test_a_recording_may_call_its_channels_otherwise(
    follow: Callable[..., Any], whole: np.ndarray, sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    names = {"zEMG": "EMG 1", "tEMG": "EMG 2", "GSR": "EDA", "Resp": "Belt", "Plet": "BVP"}
    path = write(tmp_path / "other.edf", sensors, PERIPHERALS, labels=names)
    refused, _ = follow(path)
    assert refused.code == 2
    assert "other.edf: no channel is left that the study asks for; it has EMG 1, EMG 2, EDA, Belt, BVP" in refused.err
    mapping = ", ".join(f"{theirs}: {ours}" for ours, theirs in names.items())
    ended, rows = follow(path, f"predict.channels={{{mapping}}}")
    assert ended.code == 0, ended.err
    assert rows == pytest.approx(whole, abs=1e-6)
    refused, _ = follow(path, "predict.channels={ECG: GSR}")
    assert refused.code == 2
    assert "other.edf: has no channel 'ECG' that could be renamed 'GSR'; it has EMG 1" in refused.err


def test_a_recording_of_the_study_is_left_to_the_fold_that_tests_its_subject(
    pipeline: Any, follow: Callable[..., Any], uneven_raw: Path
) -> None:
    (fold,) = [fold for fold in folds_of(pipeline.study) if "s04" in fold.test]
    ended, rows = follow(uneven_raw / "s04.dat")
    assert ended.code == 0, ended.err
    assert "s04.dat is one of the study's own: taking the student of the fold that tests s04" in ended.out
    said = predict.predict_recording(pipeline.study, uneven_raw / "s04.dat", [fold])
    assert rows[:, 2:-1] == pytest.approx(said.probs, abs=1e-5)


@pytest.mark.parametrize(
    ("kept", "missing"),
    [
        (["zEMG", "tEMG", "Resp", "Plet"], "eda"),
        (["GSR", "Resp", "Plet"], "emg"),
        (["Plet"], "eda, emg, resp"),
    ],
)
def test_absent_modalities_are_masked_and_said(
    follow: Callable[..., Any],
    whole: np.ndarray,
    sensors: dict[str, np.ndarray],
    tmp_path: Path,
    kept: list[str],
    missing: str,
) -> None:
    ended, rows = follow(write(tmp_path / "part.edf", sensors, kept))
    assert ended.code == 0, ended.err
    assert f"part.edf has no {missing}: masked" in ended.out
    assert np.isfinite(rows).all()
    assert rows[:, 2:-1].sum(1) == pytest.approx(1, abs=1e-5)
    assert np.abs(rows - whole).max() > 1e-3


def test_one_of_two_channels_of_a_modality_is_enough(
    follow: Callable[..., Any], whole: np.ndarray, sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    ended, rows = follow(write(tmp_path / "part.edf", sensors, ["tEMG", "GSR", "Resp", "Plet"]))
    assert ended.code == 0, ended.err
    assert re.search(r"part\.edf has no zEMG \(emg\): masked \(predict\.channels=", ended.out)
    assert np.isfinite(rows).all()


def test_a_recording_without_any_is_refused(
    follow: Callable[..., Any], sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = write(tmp_path / "none.edf", sensors, ["Temp"])
    ended, rows = follow(path)
    assert ended.code == 2
    said = f"mtkd: {path}: no channel is left that the study asks for; it has Temp; predict.channels={{ITS NAME: "
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1
    assert rows is None
    assert not (tmp_path / "out").exists()


def test_a_recording_shorter_than_a_window_is_refused(
    follow: Callable[..., Any], sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = write(tmp_path / "short.edf", sensors, PERIPHERALS, n_secs=8)
    ended, rows = follow(path)
    assert ended.code == 2
    assert ended.err == f"mtkd: {path}: 8 s long, shorter than one window of 6 s after 3 s for the filters\n"
    assert rows is None


@pytest.mark.parametrize("n_secs", [9, 63, 100])
def test_no_earlier_answer_moves_when_the_recording_goes_on(
    follow: Callable[..., Any], whole: np.ndarray, sensors: dict[str, np.ndarray], tmp_path: Path, n_secs: int
) -> None:
    """Filters included, all of which are causal for peripherals."""
    _, rows = follow(write(tmp_path / "cut.edf", sensors, PERIPHERALS, n_secs=n_secs))
    assert len(rows) == (n_secs - 3) // 6
    assert rows == pytest.approx(whole[: len(rows)], abs=2e-5)


def test_a_sensor_that_gives_nothing_is_masked(
    follow: Callable[..., Any], sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    flat = sensors | {"GSR": np.zeros_like(sensors["GSR"])}
    _, without = follow(write(tmp_path / "without.edf", sensors, ["zEMG", "tEMG", "Resp", "Plet"]))
    ended, rows = follow(write(tmp_path / "flat.edf", flat, PERIPHERALS))
    assert ended.code == 0, ended.err
    assert rows == pytest.approx(without, abs=1e-6)


def test_a_sensor_that_falls_off_is_masked_once_that_is_known(
    follow: Callable[..., Any], sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    fast = ["zEMG", "tEMG", "Resp", "Plet"]
    _, whole = follow(write(tmp_path / "on.edf", sensors, fast))
    off = {name: values.copy() for name, values in sensors.items()}
    for values in off.values():
        values[63 * 128 :] = values[63 * 128]
    ended, rows = follow(write(tmp_path / "off.edf", off, fast))
    assert ended.code == 0, ended.err
    n_on = (63 - 3) // 6  # the next window holds second 68, in whose last five nothing moved
    assert rows[:n_on] == pytest.approx(whole[:n_on], abs=2e-5)
    assert np.isnan(rows[n_on:, 2:]).all()


def test_where_no_sensor_gives_anything_there_is_no_answer(
    follow: Callable[..., Any], sensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    flat = {name: np.zeros_like(values) for name, values in sensors.items()}
    ended, rows = follow(write(tmp_path / "flat.edf", flat, PERIPHERALS))
    assert ended.code == 0, ended.err
    assert np.isnan(rows[:, 2:]).all()
    with Image.open(tmp_path / "out/flat-distilled-prediction.png") as picture:
        picture.verify()


def test_the_mean_of_the_folds_students_answers(pipeline: Any, follow: Callable[..., Any], whole: np.ndarray) -> None:
    study, path = pipeline.study, Path(pipeline.study.predict.recording)
    folds = folds_of(study)
    both = predict.predict_recording(study, path, folds)
    single = [predict.predict_recording(study, path, [fold]) for fold in folds]
    assert both.probs == pytest.approx(np.mean([each.probs for each in single], axis=0), abs=1e-9)
    assert both.confidence == pytest.approx(np.mean([each.confidence for each in single], axis=0), abs=1e-9)
    assert np.abs(single[0].probs - single[1].probs).max() > 1e-3


def test_its_windows_are_those_of_training(pipeline: Any, tmp_path: Path) -> None:
    """The same recording as a trial of a shard, cut by the loader and answered at once instead of by state."""
    study, path = pipeline.study, Path(pipeline.study.predict.recording)
    fold, settings = folds_of(study)[0], study.distill
    _, data = open_shards(study)
    streams = read_streams(path, study.data, deap.CHANNELS, {})
    whole = Recording("w", str(path), streams, [Span("whole", "", 3.0, streams["eda"].n_times / SFREQ)])
    ((span, signals),) = preprocess(whole, study.signals)
    samples = write_shard(tmp_path / "w.tar", [encode("w", span, signals)])
    write_index(tmp_path, {"w.tar": samples})
    trained_on = make_cutter(study, data, fold, settings.modalities, study.windows)
    batch = replace(trained_on, shards=ShardSet(tmp_path)).batch(["w_whole"])
    model = load_model(study, data, fold, settings, unit_of(study, fold, settings).folder)
    with torch.inference_mode():
        expected = model(batch)
    said = predict.predict_recording(study, path, [fold])
    assert said.probs == pytest.approx(expected.logits[0].softmax(-1).numpy(), abs=1e-5)
    assert said.confidence == pytest.approx(expected.confidence[0].numpy(), abs=1e-5)


def test_a_student_that_is_not_trained_is_named(follow: Callable[..., Any], pipeline: Any) -> None:
    ended, rows = follow(Path(pipeline.study.predict.recording), "distill.width=12")
    assert ended.code == 2
    assert re.fullmatch(r"mtkd: \S+/distill/fold-0-\w+: not there yet; run `mtkd distill` first\n", ended.err)
    assert rows is None
