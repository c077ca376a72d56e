"""What all tests share: the repository, real recordings, a small simulated study, and a guard over the repository."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from mtkd.config import Simulation, Study
from mtkd.signals.simulated import write_study
from mtkd.study import read_study
from mtkd.training.fold import quiet_libraries

REPO = Path(__file__).resolve().parent.parent
_CACHES = {"__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache", "torch_extensions"}

# Without a database of examples nothing is written; without a deadline a busy machine fails nothing.
settings.register_profile("mtkd", deadline=None, database=None)
settings.load_profile("mtkd")

# A shell has what it runs in the background ignore Ctrl-C, and so would whatever we start in order to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two folds of three subjects; each training long enough to move and short enough for a test.
SMALL = (
    "name=small",
    "data.simulate.n_subjects=6",
    "data.simulate.n_trials=4",
    "splits.n_folds=2",
    "temporal.layers=1",
    "temporal.optim.epochs=2",
    "temporal.optim.batch_size=4",
    "spatial.optim.epochs=3",
    "spatial.optim.batch_size=4",
    "distill.width=8",
    "distill.optim.epochs=3",
    "distill.optim.batch_size=4",
    "sweep.n_trials=2",
    "sweep.grace_epochs=1",
    f"temporal.accelerate={REPO / 'configs/accelerate/cpu_two_ranks.yaml'}",
    f"temporal.deepspeed={REPO / 'configs/deepspeed/zero2.json'}",
)


def _guard(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: whoever opens a file of the repository to write, or makes, moves or removes one, gets an error."""
    if event == "open":
        path, mode, flags = args
        written = (
            [path] if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode or "") & set("wax+") else []
        )
    elif event in {"os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}:
        written = args[:1]
    elif event in {"os.rename", "os.link", "os.symlink", "shutil.move"}:
        written = args[:2]
    else:
        return
    for path in written:
        if isinstance(path, str | bytes | os.PathLike):
            # not resolved: a symbolic link of a test may point into the repository, and may be removed
            place = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
            if (
                place.is_relative_to(REPO)
                and not _CACHES & set(place.parts)
                and "pytest-cache-files-" not in str(place)
            ):
                raise PermissionError(f"a test writes into the repository: {event} {place}")


sys.addaudithook(_guard)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``MTKD_TEST_GPU=1`` the tests that need a GPU are run, and only they."""
    wanted = bool(os.environ.get("MTKD_TEST_GPU"))
    for item in items:
        if wanted != (item.get_closest_marker("gpu") is not None):
            item.add_marker(pytest.mark.skip(reason="MTKD_TEST_GPU=1 runs the tests that need a GPU, and only those"))


@pytest.fixture(scope="session", autouse=True)
def _outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All tests run in an empty folder: relative paths, those of other processes too, never meet the repository."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("outside"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the repository, to read from."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings, ``eegmat/`` and ``biosemi/``; MTKD_TEST_DATA names another one."""
    folder = Path(os.environ.get("MTKD_TEST_DATA", REPO.parent / "shared" / "data"))
    if not (folder / "eegmat").is_dir() or not (folder / "biosemi").is_dir():
        pytest.skip(f"no real recordings: {folder} has no eegmat/ and biosemi/ (MTKD_TEST_DATA names the folder)")
    return folder


@pytest.fixture(scope="session")
def small_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with six simulated subjects of four trials in DEAP's format, and ``wearable.edf``; not to be changed."""
    folder = tmp_path_factory.mktemp("raw")
    write_study(Simulation(n_subjects=6, n_trials=4), folder)
    return folder


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where studies have their backbones unpacked: each once for all processes, as a GGUF file takes 20 s."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "backbones").mkdir(exist_ok=True)
    return folder / "backbones"


@pytest.fixture(scope="session")
def make_study(small_raw: Path, backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    """A factory of studies on ``small_raw``: ``make_study("distill.width=16", workspace=folder)``.

    The workspace is a new one unless it is given. Every override is one of the command line's.
    """

    def make(*overrides: str, workspace: Path | None = None) -> Study:
        place = workspace
        if place is None:
            place = tmp_path_factory.mktemp("workspace")
            (place / "backbone").symlink_to(backbones)
        given = [*SMALL, f"data.folder={small_raw}", f"workspace={place}", *overrides]
        return read_study(REPO / "configs" / "study" / "simulated.yaml", given)

    return make


@pytest.fixture(scope="session")
def small_study(make_study: Callable[..., Study]) -> Study:
    """The small study in a workspace of the whole session; nobody changes what stands there."""
    return make_study()


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of three layers, as safetensors."""
    import transformers

    quiet_libraries()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=61,
    )
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
