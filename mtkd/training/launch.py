"""Starting a stage's ranks with ``accelerate launch``, and waiting for them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mtkd.config import Study
from mtkd.errors import ERROR_FILE, MtkdError
from mtkd.files import write_json
from mtkd.parts import WHOLE, Part
from mtkd.processes import end_with_parent
from mtkd.training.runtime import check_launch, clear_locks

_PATIENCE_S = 60
"""How long a launcher that is told to stop may take to end its ranks; it gives them 30 s itself."""


def launch(study: Study, stage: str, config: str, part: Part = WHOLE) -> None:
    """Run ``accelerate launch -m mtkd STAGE`` on a part of the resolved study; its first rank speaks for us.

    Raises:
        MtkdError: ``config`` is none of accelerate's, a rank met bad input, or the launcher failed.
    """
    check_launch(config, f"{stage}.accelerate = {config}")
    clear_locks()
    log = Path(study.workspace) / stage / ("launch.log" if part == WHOLE else f"launch-{part.number}-{part.of}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    # DeepSpeed looks for ninja where commands are, also where nobody has activated this environment
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    with tempfile.TemporaryDirectory() as folder, log.open("w") as file:
        # torch's launcher would leave an empty folder of its own for good
        command += ["--log_dir", folder, "-m", "mtkd", stage]
        resolved, error_file = Path(folder, "study.json"), Path(folder, "error")
        write_json(resolved, study.model_dump())
        launcher = subprocess.Popen(
            [*command, str(resolved), "--part", str(part)],
            env=os.environ | {ERROR_FILE: str(error_file), "PATH": path},
            stderr=file,  # what the libraries say; progress comes on standard output
            preexec_fn=end_with_parent,  # and the ranks follow the launcher, so that none trains on for nobody
        )
        code = _wait(launcher)
        if error_file.exists():
            raise MtkdError(error_file.read_text().strip())
        if code != 0:
            raise MtkdError(
                f"{stage}: accelerate launch with {config} ended with exit code {code}, see {log}; "
                "the next start goes on from the last checkpoint"
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
