"""The quickstart on real recordings, on some subjects of eegmat and for an epoch or two."""

import os
from collections.abc import Callable
from pathlib import Path

FEW = [
    "name=eegmat-few",
    "data.subjects=['01','02','06','07','08','09']",
    "splits.n_folds=2",
    "splits.crossfit=2",
    "temporal.optim.epochs=1",
    "spatial.optim.epochs=2",
    "distill.optim.epochs=2",
    "evaluate.students={labels alone: {teachers: {}}, distilled: {}}",  # searches are for the simulated study to test
]


def test_the_quickstart_on_real_recordings(
    script: Callable[..., str], shared_data: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    folder = os.path.relpath(shared_data / "eegmat")
    given = [f"workspace={workspace}", f"temporal.backbone={tiny_llama}", "temporal.layers=1", *FEW]
    said = script("launch/quickstart.sh", "eegmat", folder, *given)
    assert "DeepSpeed ZeRO-2, 2 ranks" in said
    assert "6 test subjects, 12 trials" in said
    assert "report.html" in said
    assert (workspace / "predict").is_dir()
