"""The rules of the house as far as a machine can read them: who imports whom, how long files are, what help costs."""

import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from mtkd.study import read_study

# The flow of the data. What stands in one group may import its own and every group before it.
FLOW = [
    ["errors", "config", "study", "seeds", "files", "digests", "console", "parts", "processes", "cluster", "workspace"],
    ["signals"],
    ["shards"],
    ["layers"],
    ["training"],
    ["teachers"],
    ["cache"],
    ["distill"],
    ["sweep"],
    ["evaluate"],
    ["deploy"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(FLOW) for name in names}
MONOPOLY = {
    "ray": ("sweep/", "cluster.py"),
    "accelerate": ("training/runtime.py", "training/placement.py"),
    "deepspeed": ("training/runtime.py", "training/zero.py"),
}
MAX_LINES = 300


def imports(tree: ast.AST, module: str) -> Iterable[tuple[int, str]]:
    """Every import of a module with its line, those inside functions and the dynamic ones with a literal name too."""
    package = module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, node.module] if node.module else base)
            # "from mtkd import cli" names the module in the second half
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            by_name = ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}
            yield from [(node.lineno, str(node.args[0].value))] * by_name


def part(dotted: str) -> str:
    """The folder or root module of the package that a dotted name belongs to; empty for the package itself."""
    name = dotted.split(".")[1] if "." in dotted else ""
    return name if name in LEVEL else ""


def violations(package: Path) -> list[str]:
    """A sentence on every import that points downstream or stands where only one place may have it."""
    found = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        module = ".".join(["mtkd", *inside.with_suffix("").parts])
        own = inside.parts[0].removesuffix(".py")
        if own == "__init__":
            own = "errors"  # the package itself lies below everything
        if own not in LEVEL:
            found.append(f"{inside}: {own} has no place in the flow of the data")
            continue
        for line, name in imports(ast.parse(path.read_text("utf-8")), module):
            top = name.split(".")[0]
            if top == "mtkd" and part(name) and LEVEL[part(name)] > LEVEL[own]:
                found.append(f"{inside}:{line}: {own} imports {name}")
            if top in MONOPOLY and not str(inside).startswith(MONOPOLY[top]):
                found.append(f"{inside}:{line}: only {' and '.join(MONOPOLY[top])} may import {top}")
    return found


def test_imports_point_upstream_and_engines_stay_in_their_place(repo):
    assert violations(repo / "mtkd") == []


def test_every_folder_and_root_module_has_its_place_in_the_flow(repo):
    found = {path.name for path in (repo / "mtkd").iterdir() if (path / "__init__.py").is_file()}
    found |= {path.stem for path in (repo / "mtkd").glob("*.py")} - {"__init__"}
    assert found == set(LEVEL)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("signals/x.py", "from mtkd.shards import build"),
        ("signals/readers/x.py", "from mtkd.shards.build import run"),
        ("signals/readers/x.py", "from ...shards import build"),
        ("signals/x.py", "from mtkd import shards"),
        ("shards/x.py", "import mtkd.layers.encoder as e"),
        ("layers/x.py", "def f():\n    from mtkd.training.fit import fit"),
        ("training/x.py", "class A:\n    def f(self):\n        import mtkd.teachers.spatial.train"),
        ("teachers/spatial/x.py", "if True:\n    from mtkd.cache import build"),
        ("cache/x.py", "import importlib\nimportlib.import_module('mtkd.distill.train')"),
        ("distill/x.py", "from mtkd.sweep.run import STAGE"),
        ("sweep/x.py", "from mtkd.evaluate import run"),
        ("evaluate/x.py", "from mtkd.deploy import predict"),
        ("deploy/x.py", "from mtkd.cli import main"),
        ("config.py", "def f():\n    import mtkd.signals"),
        ("errors.py", "from mtkd import cli"),
        ("evaluate/x.py", "def f():\n    import ray"),
        ("teachers/x.py", "from ray import tune"),
        ("training/fit.py", "from accelerate import Accelerator"),
        ("teachers/temporal/x.py", "import deepspeed.ops"),
        ("helpers/x.py", "import os"),
    ],
)
def test_the_checker_sees_a_planted_violation(tmp_path, place, line):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("shards/x.py", "from mtkd.signals.windows import cut\nfrom mtkd import shards, config"),
        ("sweep/x.py", "def f():\n    import ray\n    from ray import tune"),
        ("training/runtime.py", "from accelerate import Accelerator\nimport deepspeed"),
        ("cli.py", "from mtkd.deploy import predict"),
        ("evaluate/x.py", "import arrays\nfrom raymond import x"),
    ],
)
def test_the_checker_lets_good_imports_pass(tmp_path, place, line):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert violations(tmp_path) == []


def test_no_file_is_longer_than_a_reader_can_hold(repo):
    paths = [path for name in ("mtkd", "tests", "benchmarks") for path in (repo / name).rglob("*.py")]
    paths += (repo / "launch").rglob("*.sh")
    lengths = {str(path.relative_to(repo)): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_file_is_a_drawer_for_everything(repo):
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py"}
    found = [path for folder in ("mtkd", "tests", "benchmarks") for path in (repo / folder).rglob("*.py")]
    assert [path for path in found if path.name in drawers] == []


def _studies() -> list[Path]:
    return sorted((Path(__file__).parent.parent / "configs" / "study").iterdir())


@pytest.mark.parametrize("path", _studies(), ids=lambda path: path.name)
def test_every_shipped_study_loads_under_its_own_name(path):
    study = read_study(path)
    assert path.name == f"{study.name}.yaml"
    assert Path(study.workspace).name == study.name


def test_there_are_shipped_studies():
    assert {"simulated.yaml", "eegmat.yaml"} <= {path.name for path in _studies()}


def test_every_engine_configuration_is_parseable_and_some_study_or_launch_script_uses_it(repo):
    readers = [
        *(repo / "configs" / "study").iterdir(),
        *(repo / "launch").rglob("*"),
        *(repo / "mtkd" / "config").rglob("*.py"),
    ]
    texts = [path.read_text("utf-8") for path in readers if path.is_file()]
    configs = [path for name in ("accelerate", "deepspeed") for path in sorted((repo / "configs" / name).iterdir())]
    assert configs
    for path in configs:
        content = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
        assert isinstance(content, dict), path
        assert any(str(path.relative_to(repo)) in text for text in texts), f"{path} is used nowhere"


def test_what_studies_name_under_configs_is_there(repo):
    for path in _studies():
        study = read_study(path)
        for named in (study.temporal.accelerate, study.temporal.deepspeed):
            assert named is None or (repo / named).is_file(), f"{path.name} names {named}"


HEAVY = (
    "torch",
    "ray",
    "transformers",
    "mne",
    "accelerate",
    "deepspeed",
    "peft",
    "torch_geometric",
    "scipy",
    "sklearn",
)
HELP = f"""
import sys
from mtkd.cli import app
try:
    app(["--help"])
except SystemExit as end:
    print("exit", end.code)
print("heavy", sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def test_help_imports_no_engine():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert "shards" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["exit 0", "heavy []"]


def test_help_answers_in_half_a_second():
    def once() -> float:
        started = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("mtkd"), "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(once() for _ in range(5)) < 0.5


def test_help_lists_the_stages_in_flow_order():
    from mtkd.cli import STAGES

    done = subprocess.run([sys.executable, "-m", "mtkd", "--help"], capture_output=True, text=True, check=True)
    listed = [word for line in done.stdout.splitlines() for word in line.replace("│", " ").split()[:1]]
    stages = [word for word in listed if word in STAGES]
    assert " ".join(stages) == "shards temporal spatial cache distill sweep evaluate predict"
    assert stages == list(STAGES)


def test_every_stage_module_runs():
    import importlib

    from mtkd.cli import STAGES

    for stage, (module, text) in STAGES.items():
        assert callable(importlib.import_module(module).run), stage
        assert text.endswith(".")


def test_a_test_that_writes_into_the_repository_is_stopped(repo, tmp_path):
    for write in (
        lambda: (repo / "left.txt").write_text(""),
        lambda: (repo / "left").mkdir(),
        lambda: (repo / "pyproject.toml").rename(tmp_path / "gone"),
        lambda: (repo / "pyproject.toml").unlink(),
        lambda: (repo / "pyproject.toml").open("r+"),
    ):
        with pytest.raises(PermissionError, match="writes into the repository"):
            write()
    assert not Path.cwd().is_relative_to(repo)
