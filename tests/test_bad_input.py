"""Each bad input ends with one sentence that names the file or key, exit code 2, and nothing under a final name."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
import safetensors.torch

from mtkd.cache import build as cache
from mtkd.shards.build import open_shards
from mtkd.teachers.spatial import train as spatial
from mtkd.training.fold import folds_of


def standing(workspace: Path) -> set[str]:
    """What has a final name: all that is not begun with a dot."""
    found = (path.relative_to(workspace) for path in workspace.rglob("*")) if workspace.exists() else ()
    return {str(path) for path in found if not any(part.startswith(".") for part in path.parts)}


@pytest.fixture
def refused(mtkd: Callable[..., Any]) -> Callable[..., str]:
    """The one sentence with which a command ends: ``refused(stage, study_file, workspace, *overrides)``."""

    def call(stage: str, study_file: Path, workspace: Path, *overrides: str) -> str:
        before = standing(workspace)
        ended = mtkd(stage, study_file, f"workspace={workspace}", *overrides)
        assert ended.code == 2, ended
        assert "Traceback" not in ended.err + ended.out
        (line,) = ended.err.splitlines()
        assert line.startswith("mtkd: ")
        new = {path for path in standing(workspace) - before if not path.startswith("recordings/")}
        assert new <= {stage, f"{stage}/launch.log", "recordings"}  # the stage's folder, and nothing in it
        assert all((unit / "manifest.json").is_file() for unit in workspace.glob("recordings/[!.]*"))
        return line.removeprefix("mtkd: ")

    return call


@pytest.fixture
def deap(repo: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A study file on an empty folder of DEAP's, and that folder."""
    folder = tmp_path / "raw"
    folder.mkdir()
    content = (repo / "configs/study/simulated.yaml").read_text()
    study = tmp_path / "study.yaml"
    study.write_text(content.replace("  reader: deap", f"  reader: deap\n  folder: {folder}"))
    return study, folder


@pytest.fixture
def eegmat(repo: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The study of eegmat with one good recording of rest, and the folder of it."""
    folder = tmp_path / "raw"
    folder.mkdir()
    study = tmp_path / "study.yaml"
    study.write_text((repo / "configs/study/eegmat.yaml").read_text().replace("folder: null", f"folder: {folder}"))
    write_edf(folder / "Subject01_1.edf", ["EEG Fp1", "EEG O2", "ECG ECG"])
    return study, folder


def write_edf(path: Path, names: list[str], n_secs: int = 62) -> None:
    random = np.random.default_rng(0)
    noise = 20 * random.normal(size=(len(names), 250 * n_secs))
    pairs = zip(names, noise, strict=True)
    edfio.Edf([edfio.EdfSignal(row, 250, label=name, physical_dimension="uV") for name, row in pairs]).write(path)


class RunsCode:
    """Its pickle asks for a folder to be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_missing_folder(deap: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path) -> None:
    study, folder = deap
    folder.rmdir()
    assert refused("shards", study, tmp_path / "ws") == f"data.folder = {folder}: no such folder"


def test_a_folder_without_recordings(deap: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path) -> None:
    study, folder = deap
    (folder / "readme.txt").write_text("nothing here")
    assert refused("shards", study, tmp_path / "ws").startswith(f"{folder}: no file that the reader 'deap' takes")


# The readers' own tests know many more; here, that what they say is all that is said.
FOREIGN = {"text": b"participant,trial\n1,1\n", "another pickle": pickle.dumps({"data": np.zeros(3)}, protocol=2)}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
def test_a_foreign_dat(deap: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path, content: bytes) -> None:
    study, folder = deap
    (folder / "s01.dat").write_bytes(content)
    assert refused("shards", study, tmp_path / "ws").startswith(f"{folder / 's01.dat'}: ")


def test_a_truncated_dat_among_good_ones(
    deap: tuple[Path, Path], refused: Callable[..., str], small_raw: Path, tmp_path: Path
) -> None:
    """Whole subjects that were done before it do not stand either: a shard set is whole or not there."""
    study, folder = deap
    (folder / "s01.dat").symlink_to(small_raw / "s01.dat")
    (folder / "s02.dat").write_bytes((small_raw / "s02.dat").read_bytes()[:-1])
    assert refused("shards", study, tmp_path / "ws").startswith(f"{folder / 's02.dat'}: ")


def test_a_pickle_that_would_run_code(deap: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path) -> None:
    study, folder = deap
    content = {"data": np.zeros((1, 40, 800)), "labels": RunsCode(tmp_path / "made")}
    (folder / "s01.dat").write_bytes(pickle.dumps(content, protocol=2))
    said = refused("shards", study, tmp_path / "ws")
    assert said.startswith(f"{folder / 's01.dat'}: not a plain pickle of arrays")
    assert "posix.mkdir" in said
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: bytes(5000)], ids=["truncated", "zeros"]
)
def test_a_damaged_or_foreign_edf(
    eegmat: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    study, folder = eegmat
    path = folder / "Subject01_2.edf"
    path.write_bytes(damage((folder / "Subject01_1.edf").read_bytes()))
    assert refused("shards", study, tmp_path / "ws").startswith(f"{path}: ")


def test_a_recording_without_a_modality(
    eegmat: tuple[Path, Path], refused: Callable[..., str], mtkd: Callable[..., Any], tmp_path: Path
) -> None:
    study, folder = eegmat
    write_edf(folder / "Subject01_2.edf", ["EEG Fp1", "EEG O2"])
    said = refused("shards", study, tmp_path / "ws")
    assert said.startswith(f"{folder / 'Subject01_2.edf'}: has no ecg, which signals.modalities asks for")
    assert "data.absent: mask" in said
    taken = mtkd("shards", study, f"workspace={tmp_path / 'ws'}", "data.absent=mask")  # the advice helps
    assert taken.code == 0, taken.err


def test_a_channel_that_nobody_expects(eegmat: tuple[Path, Path], refused: Callable[..., str], tmp_path: Path) -> None:
    study, folder = eegmat
    write_edf(folder / "Subject01_2.edf", ["EEG Fp1", "ECG ECG", "Marker"])
    assert refused("shards", study, tmp_path / "ws").startswith(f"{folder / 'Subject01_2.edf'}: channel 'Marker'")


@pytest.fixture
def workspace(pipeline: Any, tmp_path: Path) -> Path:
    """A copy of what the pipeline made, to be damaged."""
    pipeline.copy(tmp_path / "ws")
    return tmp_path / "ws"


def of(pipeline: Any, workspace: Path) -> Any:
    return pipeline.study.model_copy(update={"workspace": str(workspace)})


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("stage", ["temporal", "spatial", "cache", "distill", "sweep", "evaluate", "predict"])
def test_a_shard_with_a_wrong_checksum(pipeline: Any, workspace: Path, refused: Callable[..., str], stage: str) -> None:
    tar = workspace / "shards" / open_shards(pipeline.study)[0].folder.name / "s04.tar"
    flip(tar)
    said = refused(stage, pipeline.file, workspace)
    assert said.startswith(f"{tar}: its checksum is not the manifest's; delete {tar.parent} to make it again")


@pytest.mark.parametrize(
    ("unit", "file", "stage"),
    [
        ("temporal", "weights.safetensors", "cache"),
        ("spatial", "weights.safetensors", "cache"),
        ("cache", "s02.tar", "distill"),
        ("cache", "index.json", "distill"),
        ("distill", "weights.safetensors", "evaluate"),
        ("evaluate", "results.json", "evaluate"),
        ("backbone", "backbone.safetensors", "temporal"),
    ],
)
def test_any_file_with_a_wrong_checksum(
    pipeline: Any, workspace: Path, refused: Callable[..., str], unit: str, file: str, stage: str
) -> None:
    damaged = sorted((workspace / unit).glob(f"*/{file}"))[0]
    flip(damaged)
    if unit == "backbone":  # it is read when a teacher is trained
        shutil.rmtree(sorted((workspace / "temporal").glob("fold-*"))[0])
    assert refused(stage, pipeline.file, workspace).startswith(f"{damaged}: its checksum is not the manifest's")


def test_a_manifest_that_is_none(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    manifest = sorted(workspace.glob("shards/*/manifest.json"))[0]
    for content in ("{", "[]", '{"stage": "shards"}'):
        manifest.write_text(content)
        assert refused("spatial", pipeline.file, workspace).startswith(f"{manifest}: ")
    manifest.unlink()
    assert refused("spatial", pipeline.file, workspace).startswith(f"{manifest.parent}: has no manifest.json")


def test_a_cache_made_for_another_fold(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    folds = folds_of(pipeline.study)
    first, second = (cache.unit_of(pipeline.study, fold, "temporal").folder.name for fold in folds)
    shutil.rmtree(workspace / "cache" / second)
    shutil.copytree(workspace / "cache" / first, workspace / "cache" / second)
    assert refused("distill", pipeline.file, workspace).startswith(f"{workspace / 'cache' / second}: made by cache")


def test_a_cache_made_with_other_weights(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    study = of(pipeline, workspace)
    fold = folds_of(study)[0]
    old, teacher = cache.unit_of(study, fold, "spatial").folder, spatial.unit_of(study, fold)
    state = safetensors.torch.load_file(teacher.folder / "weights.safetensors")
    before = teacher.manifest().measured
    shutil.rmtree(teacher.folder)
    with teacher.build() as (folder, measured):
        measured.update(before)
        changed = {name: value + 0.01 for name, value in state.items()}
        safetensors.torch.save_file(changed, folder / "weights.safetensors")
    moved = workspace.rename(workspace.with_name("moved"))  # a place that this process has not checked yet
    study = of(pipeline, moved)
    wanted = cache.unit_of(study, fold, "spatial").folder
    said = refused("distill", pipeline.file, moved)
    assert said == f"{wanted}: not there yet; run `mtkd cache` first"
    shutil.copytree(moved / "cache" / old.name, wanted)
    assert refused("distill", pipeline.file, moved).startswith(f"{wanted}: made by cache")


def test_too_few_subjects_for_the_folds(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    said = refused("spatial", pipeline.file, workspace, "splits.n_folds=7")
    assert said == "splits.n_folds = 7: 6 subjects are too few to train on, validate (splits.val_share = 0.25) and test"


def test_a_subject_that_is_not_there(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    said = refused("shards", pipeline.file, workspace, "data.subjects=[s01, s77]")
    assert said.endswith("no file of the subject s77 that data.subjects names; there are s01, s02, s03, s04, s05, s06")


def test_a_rating_that_no_recording_has(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    said = refused("spatial", pipeline.file, workspace, "labels={valance: 5.0}")
    assert "valance" in said


def test_a_missing_launch_configuration(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    overrides = "temporal.accelerate=none.yaml", "temporal.optim.epochs=1"
    said = refused("temporal", pipeline.file, workspace, *overrides)
    assert said == "temporal.accelerate = none.yaml: no such file"


def test_a_missing_engine_configuration(pipeline: Any, workspace: Path, refused: Callable[..., str]) -> None:
    overrides = "temporal.deepspeed=none.json", "temporal.optim.epochs=1"
    said = refused("temporal", pipeline.file, workspace, *overrides)
    assert said == "temporal.deepspeed = none.json: no such file"


def test_stages_before_their_turn(pipeline: Any, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for stage in ("temporal", "spatial", "cache", "distill", "sweep", "evaluate", "predict"):
        said = refused(stage, pipeline.file, tmp_path / "empty")
        assert said.endswith("not there yet; run `mtkd shards` first")


@pytest.mark.parametrize(
    ("stage", "override", "named"),
    [
        ("temporal", "temporal.backbone=package:no_such_package_9", "temporal.backbone = package:no_such_package_9"),
        ("distill", "distill.settings=none.yaml", "distill.settings = none.yaml"),
        ("predict", "predict.recording=none.edf", "none.edf: no such file"),
        ("distill", "distill.no_such_key=1", "unknown key distill.no_such_key"),
        ("spatial", "spatial.width=wide", "spatial.width"),
    ],
)
def test_keys_that_make_no_sense(
    pipeline: Any, workspace: Path, refused: Callable[..., str], stage: str, override: str, named: str
) -> None:
    assert named in refused(stage, pipeline.file, workspace, override)


def test_a_study_that_is_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused("shards", tmp_path / "none.yaml", tmp_path / "ws") == f"{tmp_path / 'none.yaml'}: no such study file"


def test_a_study_that_is_none(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for content in ("a: [1", "- 1\n- 2\n", "\x00\x01", "name: x\n"):
        path.write_text(content)
        assert refused("shards", path, tmp_path / "ws").startswith(f"{path}: ")
