"""The command line: bad input ends with one sentence, exit code 2 and no traceback, whatever the stage."""

import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtkd import cli
from mtkd.errors import ERROR_FILE, MtkdError
from mtkd.parts import Part


@pytest.fixture
def study(repo, tmp_path) -> list[str]:
    """The simulated study in a workspace of its own, as arguments."""
    return [str(repo / "configs/study/simulated.yaml"), f"workspace={tmp_path / 'workspace'}"]


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``mtkd ARGUMENTS`` in this process."""
    monkeypatch.setattr(sys, "argv", ["mtkd", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return end.value.code, out, err


def one_sentence(err: str) -> str:
    assert err.startswith("mtkd: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    return err.removeprefix("mtkd: ")


@pytest.mark.parametrize("stage", [*cli.STAGES, "run"])
@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["nokey=1"], "nokey"),
        (["seed=x"], "seed"),
        (["noequals"], "noequals"),
        (["data.simulate=["], "simulated.yaml"),
        (["data.folder=/no/such/folder"], "/no/such/folder"),
    ],
)
def test_bad_overrides(monkeypatch, capsys, study, stage, overrides, names):
    code, _, err = run(monkeypatch, capsys, stage, *study, *overrides)
    assert code == 2
    assert names in one_sentence(err)


@pytest.mark.parametrize("content", [b"name: x\n", b"- a\n", b"a: [", b"\x80\x00\xff", b"", b"seed: {}"], ids=repr)
def test_bad_study_files(monkeypatch, capsys, tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    code, _, err = run(monkeypatch, capsys, "shards", str(path))
    assert code == 2
    assert str(path) in one_sentence(err)


@pytest.mark.parametrize("place", ["nothing.yaml", "."])
def test_study_files_that_are_none(monkeypatch, capsys, tmp_path, place):
    code, _, err = run(monkeypatch, capsys, "run", str(tmp_path / place))
    assert code == 2
    assert str(tmp_path / place) in one_sentence(err)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s01.dat", b""),
        ("s01.dat", b"no pickle at all"),
        ("s01.dat", b"\x80\x02cos\nsystem\nU\ntouch ran\x85R."),
        ("readme.txt", b"a folder without recordings"),
    ],
)
def test_bad_recordings_leave_nothing_under_its_final_name(monkeypatch, capsys, study, tmp_path, name, content):
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / name).write_bytes(content)
    code, _, err = run(monkeypatch, capsys, "shards", *study, f"data.folder={folder}")
    assert code == 2
    assert (name if name.endswith(".dat") else str(folder)) in one_sentence(err)
    assert [path for path in (tmp_path / "workspace").rglob("*") if path.is_file()] == []
    assert not Path("ran").exists()


def test_a_whole_process_ends_the_same_way(study, tmp_path):
    (tmp_path / "s01.dat").write_bytes(b"foreign")
    command = [Path(sys.executable).with_name("mtkd"), "shards", *study, f"data.folder={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert str(tmp_path / "s01.dat") in one_sentence(done.stderr)


def test_a_launched_rank_leaves_its_sentence_for_the_one_who_launched_it(monkeypatch, capsys, study, tmp_path):
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error"))
    code, _, err = run(monkeypatch, capsys, "shards", *study, "seed=x")
    assert code == 2
    assert (tmp_path / "error").read_text() == one_sentence(err).removesuffix("\n")


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch, study):
    class Broken:
        @staticmethod
        def run(study):
            raise KeyError("a bug")

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Broken)
    monkeypatch.setattr(sys, "argv", ["mtkd", "shards", *study])
    with pytest.raises(KeyError, match="a bug"):
        cli.main()


def test_each_command_runs_its_own_stage_with_the_study_it_was_given(monkeypatch, study):
    seen = []

    def module(name):
        return type(name, (), {"run": staticmethod(lambda given, *part: seen.append((name, given.seed, *part)) or [])})

    monkeypatch.setattr(cli.importlib, "import_module", module)
    for stage, (name, _) in cli.STAGES.items():
        parted = stage in cli.IN_PARTS
        assert CliRunner().invoke(cli.app, [stage, *study, "seed=5", *["--part", "2/3"] * parted]).exit_code == 0
        assert seen == [(name, 5, *[Part(2, 3)] * parted)]
        seen.clear()


def test_a_stage_waits_for_no_library_that_it_does_not_need():
    """They take seconds to load, and each of a stage's processes loads them anew."""
    modules = ("mtkd.teachers.spatial.train", "mtkd.teachers.temporal.train", "mtkd.cache.build", "mtkd.distill.train")
    looks = "import sys; print(*({'torch', 'torch_geometric', 'transformers', 'scipy.signal', 'ray'} & {*sys.modules}))"
    command = [sys.executable, "-c", f"import {', '.join(modules)}; {looks}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "torch\n"


def test_run_goes_through_all_stages_in_order_and_stops_at_the_first_that_refuses(monkeypatch, study):
    seen = []

    def module(name, refuses=""):
        def run(given, *part):
            seen.append(name)
            if name == refuses:
                raise MtkdError("no")

        return type(name, (), {"run": staticmethod(run)})

    monkeypatch.setattr(cli.importlib, "import_module", module)
    assert CliRunner().invoke(cli.app, ["run", *study]).exit_code == 0
    flow = [name for name, _ in cli.STAGES.values()]
    assert list(dict.fromkeys(seen)) == flow
    assert [name for name in seen if name != cli.STAGES["distill"][0]] == [n for n in flow if "distill" not in n]
    seen.clear()
    refusing = cli.STAGES["cache"][0]
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module(name, refusing))
    assert isinstance(CliRunner().invoke(cli.app, ["run", *study]).exception, MtkdError)
    assert seen == flow[: flow.index(refusing) + 1]


@pytest.mark.parametrize("arguments", [["nostage", "x.yaml"], ["shards"], ["shards", "--nooption", "x.yaml"]])
def test_wrong_usage_is_exit_code_2_without_a_traceback(arguments):
    done = subprocess.run([sys.executable, "-m", "mtkd", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage" in done.stderr


def test_a_workspace_that_cannot_be_written_to(monkeypatch, capsys, study, tmp_path):
    (tmp_path / "workspace").write_text("a file where a folder should be")
    code, _, err = run(monkeypatch, capsys, "shards", *study)
    assert code == 2
    assert str(tmp_path / "workspace") in one_sentence(err)
    assert (tmp_path / "workspace").read_text() == "a file where a folder should be"


def test_a_full_disk(monkeypatch, capsys, study, tmp_path):
    """A limit on the size of files stands for it: the system answers a write with an error all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        code, _, err = run(monkeypatch, capsys, "shards", *study, "data.simulate.n_subjects=2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert code == 2
    what = r"(File too large|\d+ requested and \d+ written)"
    assert re.fullmatch(rf"\S+/raw/\S*simulated-\S+: {what}", one_sentence(err).strip().removeprefix("mtkd: "))
    assert [path for path in (tmp_path / "workspace").rglob("*") if path.is_file()] == []
