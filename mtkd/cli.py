"""The command line: ``mtkd STAGE study.yaml [key.sub=value ...]``, stages in the order in which data flow."""

import errno
import importlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from mtkd.errors import ERROR_FILE, MtkdError, one_line
from mtkd.parts import WHOLE, Part, parse_part

if TYPE_CHECKING:
    from mtkd.config import Study

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil teachers that see EEG into a student that needs none.",
)
StudyFile = Annotated[Path, typer.Argument(help="The study file, such as configs/study/simulated.yaml.")]
OnePart = Annotated[str, typer.Option("--part", help="I/N: every N-th of the stage's units from the I-th on.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Changes to it: key.sub=value, values in YAML.")]

_INTERRUPTED = 128 + signal.SIGINT  # typer's code for a KeyboardInterrupt
_NO_MEMORY = ("can't allocate memory", "out of memory", "unexpectedly terminated")  # torch says it in a RuntimeError
# Modules are imported when their stage is run: `mtkd --help` shall not wait for torch.
STAGES = {
    "shards": ("mtkd.shards.build", "Recordings become shards."),
    "temporal": ("mtkd.teachers.temporal.train", "Train the language-model teacher of every fold."),
    "spatial": ("mtkd.teachers.spatial.train", "Train the graph teacher of every fold."),
    "cache": ("mtkd.cache.build", "Write down what the teachers say of every window."),
    "distill": ("mtkd.distill.train", "Train the students of every fold."),
    "sweep": ("mtkd.sweep.run", "Search the student's settings, on validation subjects only."),
    "evaluate": ("mtkd.evaluate.run", "Score teachers and students on the test subjects, and write the report."),
    "predict": ("mtkd.deploy.predict", "Use a student on a recording without EEG."),
}


IN_PARTS = ("temporal", "spatial", "cache", "distill")
"""Stages whose units do not depend on each other."""


def _add(stage: str, module: str, text: str) -> None:
    @app.command(stage, help=text)
    def command(study: StudyFile, overrides: Overrides = None) -> None:
        from mtkd.study import read_study

        importlib.import_module(module).run(read_study(study, overrides))


def _add_in_parts(stage: str, module: str, text: str) -> None:
    @app.command(stage, help=text)
    def command(study: StudyFile, overrides: Overrides = None, part: OnePart = str(WHOLE)) -> None:
        from mtkd.study import read_study

        chosen = parse_part(part)
        _run(stage, module, read_study(study, overrides), chosen)


def _run(stage: str, module: str, study: "Study", part: Part = WHOLE) -> None:
    """Run a stage; over a Ray cluster first, where its units are to be spread, and then here what is left."""
    if stage not in IN_PARTS:
        importlib.import_module(module).run(study)
        return
    if study.units.engine == "ray" and part == WHOLE:
        from mtkd.cluster import spread

        spread(study, stage)
    made = importlib.import_module(module).run(study, part)
    if part != WHOLE and not made:
        from mtkd.console import say

        say(stage, f"part {part}: nothing to do, as there are fewer units than parts")


def _add_cache(stage: str, module: str, text: str) -> None:
    @app.command(stage, help=text)
    def command(
        study: StudyFile,
        overrides: Overrides = None,
        part: OnePart = str(WHOLE),
        show: Annotated[bool, typer.Option("--list", help="Tell what the workspace holds instead.")] = False,
        verify: Annotated[bool, typer.Option("--verify", help="Read all of it again instead.")] = False,
        prune: Annotated[bool, typer.Option("--prune", help="Delete what this study does not read instead.")] = False,
    ) -> None:
        from mtkd.study import read_study

        checked, chosen = read_study(study, overrides), parse_part(part)
        tasks = [name for name, wanted in {"show": show, "verify": verify, "prune": prune}.items() if wanted]
        if tasks:
            stock = importlib.import_module("mtkd.cache.stock")
            for name in tasks:
                getattr(stock, name)(checked)
        else:
            _run(stage, module, checked, chosen)


for _stage, (_module, _text) in STAGES.items():
    add = _add_cache if _stage == "cache" else _add_in_parts if _stage in IN_PARTS else _add
    add(_stage, _module, _text)


_add("inspect", "mtkd.shards.inspect", "Tell what the shards hold, and draw a trial.")


@app.command("plan")
def plan(
    study: StudyFile,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="Ranks on each of them.")] = 1,
    gpu_memory: Annotated[float, typer.Option(help="Memory of each rank, GB.")] = 80.0,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="What a rank trains; measured on this machine without it.")
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The ranks are of CPUs, with that memory and no other.")] = False,
) -> None:
    """Tell what training the temporal teacher will need: memory by stage of ZeRO, steps and time."""
    from mtkd.study import read_study

    checked = read_study(study, overrides)
    importlib.import_module("mtkd.teachers.temporal.plan").run(
        checked, nodes, gpus_per_node, gpu_memory, tokens_per_second, cpu
    )


@app.command("run")
def run_all(study: StudyFile, overrides: Overrides = None) -> None:
    """Run all stages in order; those whose results stand are skipped."""
    from mtkd.study import read_study

    checked = read_study(study, overrides)
    for stage, (module, _) in STAGES.items():
        _run(stage, module, checked)
        if stage == "sweep":  # the students that waited for their settings
            _run("distill", STAGES["distill"][0], checked)


_MISTAKES = (LookupError, TypeError, ValueError, AttributeError, AssertionError)


def main() -> None:
    """Entry point. Bad input, or a machine that does not bear with us, ends with one sentence and exit code 2."""
    terminated: list[int] = []  # noted here, since Ray makes every SystemExit raised within its calls one of code 1

    def stop(number: int, frame: FrameType | None) -> None:
        terminated.append(128 + number)
        sys.exit(128 + number)

    if ERROR_FILE not in os.environ:  # a rank ends at once; who started it may have something to clear away
        signal.signal(signal.SIGTERM, stop)
    try:
        app()
    except SystemExit as end:
        if terminated or end.code == _INTERRUPTED:
            print("mtkd: interrupted; the next run goes on from what is finished", file=sys.stderr)
            sys.exit(terminated[0] if terminated else _INTERRUPTED)
        raise
    except (MtkdError, OSError, MemoryError, RuntimeError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        if ERROR_FILE in os.environ:
            Path(os.environ[ERROR_FILE]).write_text(sentence)
        print(f"mtkd: {sentence}", file=sys.stderr)
        sys.exit(2)
    except _MISTAKES as error:  # of ours; a rank's would else be known to its log alone
        if ERROR_FILE in os.environ:
            told = f"{type(error).__name__}: {one_line(error)}; a mistake of mtkd's, of which the log has more"
            Path(os.environ[ERROR_FILE]).write_text(told)
        raise


def _sentence(error: Exception) -> str | None:
    """What to tell of an error, or None of one that is a mistake of ours."""
    if isinstance(error, MtkdError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return "out of memory; the study asks for more than this machine has"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        return "no space left, on the workspace's disk, in the folder for temporary files or in /dev/shm"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return None
