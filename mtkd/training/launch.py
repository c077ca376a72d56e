"""Starting a stage's ranks with ``accelerate launch``, and waiting for them."""

import os
import re
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import torch

from mtkd.config import Study, Temporal
from mtkd.console import counted, say
from mtkd.errors import ERROR_FILE, MtkdError
from mtkd.files import scratch_folder, write_json
from mtkd.parts import WHOLE, Part
from mtkd.processes import end_with_parent
from mtkd.training.runtime import clear_locks, compiled, read_launch
from mtkd.training.zero import engine_config, refuse_compile

_OF_THE_LAUNCHER = {"deepspeed_multinode_launcher", "deepspeed_hostfile"}
_PATIENCE_S = 60
"""How long a launcher that is told to stop may take to end its ranks; it gives them 30 s itself."""


def launch(study: Study, stage: str, part: Part = WHOLE) -> None:
    """Run ``accelerate launch -m mtkd STAGE`` on a part of the resolved study; its first rank speaks for us.

    What the libraries say is added to the stage's log, which other runs may be writing to as well.

    Raises:
        MtkdError: the configurations are none of accelerate's and DeepSpeed's, or do not belong together; a rank met
            bad input; or the launcher failed.
    """
    config = study.temporal.accelerate
    told = _checked(study)
    say(stage, f"starting {told} by {config}{'' if compiled() else ', which first compile for half a minute'}")
    clear_locks()
    log = Path(study.workspace) / stage / ("launch.log" if part == WHOLE else f"launch-{part.number}-{part.of}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(log.with_suffix("")) as folder, log.open("a", encoding="utf-8") as file:
        resolved, error_file = folder / "study.json", folder / "error"
        write_json(resolved, study.model_dump())
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
        # torch's launcher would leave an empty folder of its own for good
        command += ["--log_dir", str(folder), "-m", "mtkd", stage, str(resolved), "--part", str(part)]
        code = _wait(_started(command, error_file, file))
        if error_file.exists():
            raise MtkdError(error_file.read_text().strip())
        if code != 0:
            raise MtkdError(
                f"{stage}: accelerate launch with {config} ended with exit code {code}, see {log}; "
                "the next start goes on from the last checkpoint"
            )


def _checked(study: Study) -> str:
    """What accelerate will start, in words, once it is sure that it does, and that its ranks will take it."""
    settings = study.temporal
    key = f"temporal.accelerate = {settings.accelerate}"
    found = read_launch(settings.accelerate, key)
    _check_values(key, found)
    if (found.num_machines or 1) > 1:
        raise MtkdError(f"{key}: is of {found.num_machines} machines; start each of them with launch/node.sh")
    n_ranks = found.num_processes or 0
    if n_ranks < 1:
        raise MtkdError(f"{key}: num_processes is {n_ranks}, not the number of ranks")
    if found.mixed_precision not in (None, "no"):
        raise MtkdError(f"{key}: sets mixed_precision; temporal.dtype is the study's key for that")
    _check_engine(key, found.distributed_type == "DEEPSPEED", bool(found.use_cpu), n_ranks, settings)
    on_gpu = torch.cuda.is_available() and not found.use_cpu
    return f"{counted(n_ranks, 'rank')} on {'GPUs' if on_gpu else 'the CPU'}"


def _check_values(key: str, found: Any) -> None:
    for name in ("num_machines", "num_processes", "main_process_port"):
        if type(number := getattr(found, name) or 0) is not int:
            raise MtkdError(f"{key}: {name} is {number!r}, not a whole number")
    if not 0 <= (found.main_process_port or 0) < 2**16:
        raise MtkdError(f"{key}: main_process_port is {found.main_process_port}, not a port's number")
    if not (isinstance(gpus := found.gpu_ids, str | None) and re.fullmatch(r"all|\d+(,\d+)*", gpus or "all")):
        raise MtkdError(f"{key}: gpu_ids is {gpus!r}, not a text such as '0,1'")
    for name in (found.deepspeed_config or {}).keys() - _OF_THE_LAUNCHER:
        raise MtkdError(f"{key}: sets deepspeed_config.{name}; temporal.deepspeed names the file for that")


def _check_engine(key: str, starts_it: bool, use_cpu: bool, n_ranks: int, settings: Temporal) -> None:
    if settings.deepspeed is None:
        if starts_it:
            raise MtkdError(f"{key}: starts DeepSpeed, but temporal.deepspeed is null")
        if n_ranks > 1:
            raise MtkdError(f"{key}: starts {n_ranks} ranks, but temporal.deepspeed is null")
        return
    if not starts_it:
        raise MtkdError(f"{key}: starts no DeepSpeed, but temporal.deepspeed is {settings.deepspeed}, not null")
    if use_cpu:
        raise MtkdError(f"{key}: with use_cpu = true accelerate leaves DeepSpeed out; without, ranks take a CPU too")
    stage = engine_config(settings.deepspeed, settings.optim).get("zero_optimization", {}).get("stage", 0)
    refuse_compile(settings, stage)


def _started(command: list[str], error_file: Path, log: TextIO) -> subprocess.Popen:
    log.write(f"\n{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z} {shlex.join(command)}\n")
    log.flush()
    # DeepSpeed looks for ninja where commands are, also where nobody has activated this environment
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return subprocess.Popen(
        command,
        env=os.environ | {ERROR_FILE: str(error_file), "PATH": path},
        stderr=log,  # progress comes on standard output
        preexec_fn=end_with_parent,  # and the ranks follow the launcher, so that none trains on for nobody
    )


def _wait(launcher: subprocess.Popen) -> int:
    """The launcher's exit code; where we are interrupted, it is let to end its ranks first."""
    try:
        return launcher.wait()
    except BaseException:
        launcher.terminate()
        try:
            launcher.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            launcher.kill()
        raise
