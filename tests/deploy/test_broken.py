"""A student whose weights are no numbers: it is named, and not the sensors."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from mtkd.deploy import predict
from mtkd.distill.settings import settings_of
from mtkd.distill.train import unit_of
from mtkd.errors import MtkdError
from mtkd.training.fold import folds_of


def test_a_student_that_says_no_number_is_named(pipeline: Any, uneven_raw: Path, tmp_path: Path) -> None:
    study = pipeline.copy(tmp_path / "workspace")
    fold = folds_of(study)[0]
    unit = unit_of(study, fold, settings_of(study, "distilled", fold))
    measured = unit.manifest().measured
    state = safetensors.torch.load_file(unit.folder / "weights.safetensors")
    shutil.rmtree(unit.folder)
    with unit.build() as (folder, written):
        written.update(measured)
        broken = {name: value * float("nan") if name.startswith("heads") else value for name, value in state.items()}
        safetensors.torch.save_file(broken, folder / "weights.safetensors")
    path = uneven_raw / "wearable.edf"
    with pytest.raises(MtkdError, match=f"^{unit.folder}: the student says what is no number of {path}; delete it"):
        predict.predict_recording(study, path, folds_of(study))
