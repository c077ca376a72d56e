"""``accelerate launch`` with DeepSpeed ZeRO-2 on two CPU ranks learns what one process learns."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from mtkd.config import Study
from mtkd.signals.splits import Fold
from mtkd.teachers.temporal import train as temporal
from mtkd.training.fit import History, fit, trained_state
from mtkd.training.fold import fold_data, folds_of, teacher_objective
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit


def in_one_process(study: Study, fold: Fold) -> tuple[History, dict[str, torch.Tensor]]:
    settings, runtime = study.temporal, Runtime(study.temporal.optim)
    data = fold_data(study, fold, settings.modalities, temporal.patches(study))
    signals = data.loader(fold.training, settings.optim, runtime, study.seed, shuffle=False)
    model = temporal._prepared(study, data, signals, runtime)
    loaders = temporal.loaders(study, data, model, runtime)
    history = fit(model, teacher_objective(study, data, settings.confidence_weight), *loaders, settings.optim, runtime)
    return history, trained_state(model)


@pytest.fixture(scope="module", params=[2, 3])
def told(
    request: pytest.FixtureRequest, repo: Path, tiny_unit: Unit, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What each of two launched ranks says of the steps in ``on_two_ranks.py``."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--log_dir", str(folder), "--config_file", str(repo / "configs/accelerate/cpu_two_ranks.yaml")]
    command += [str(Path(__file__).with_name("on_two_ranks.py")), str(folder)]
    command += [str(repo / f"configs/deepspeed/zero{request.param}.json"), str(tiny_unit.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) | {"stage": request.param} for rank in range(2)]


def test_the_gradient_is_the_mean_over_the_windows_of_all_ranks(told: list[dict[str, Any]]) -> None:
    for rank in told:
        assert rank["engine"] == f"DeepSpeed ZeRO-{rank['stage']}, 2 ranks"
        assert rank["small"] == pytest.approx([2.0, 0.5, 2.0], rel=1e-5)  # a mean of the ranks' means: 2.67, 0, 3


def test_so_it_is_where_each_computes_its_share_in_parts(told: list[dict[str, Any]]) -> None:
    for rank in told:
        assert rank["in parts"] == pytest.approx([2.0, 0.5, 2.0], rel=1e-5)


def test_its_norm_is_clipped_over_all_of_it(told: list[dict[str, Any]]) -> None:
    for rank in told:
        expected = 10 * np.array([2.0, 0.5, 2.0]) / np.linalg.norm([2.0, 0.5, 2.0])
        assert rank["large"] == pytest.approx(expected, rel=1e-4)


def test_ranks_sum_agree_and_follow_the_first(told: list[dict[str, Any]]) -> None:
    for rank in told:
        assert rank["total"] == [3.0, 30.0]
        assert rank["from_first"] == "rank 0"
        assert rank["refusal"].startswith("the ranks do not agree about the weather")


def test_with_zero_3_each_rank_keeps_half_of_the_backbone(told: list[dict[str, Any]]) -> None:
    for rank in told:
        kept = rank["kept"]
        share = kept["here"] / kept["whole"]
        assert kept["right"]
        assert kept["counted"] == kept["whole"]
        assert share == pytest.approx(0.5, rel=0.01) if rank["stage"] == 3 else share == 1


def test_nothing_holds_what_a_training_before_has_trained(told: list[dict[str, Any]]) -> None:
    """Or each fold would take as much memory again."""
    assert [rank["left"] for rank in told] == [0, 0]


def test_the_engine_was_deepspeed_on_two_ranks(pipeline: Any) -> None:
    engines = {
        json.loads((unit / "manifest.json").read_text())["measured"]["engine"] for unit in pipeline.units("temporal")
    }
    assert engines == {"DeepSpeed ZeRO-2, 2 ranks"}
    assert pipeline.first.out.count("DeepSpeed ZeRO-2, 2 ranks") == 2  # each fold says so


def test_only_the_first_rank_speaks(pipeline: Any) -> None:
    said = [line for line in pipeline.first.out.splitlines() if line.startswith("temporal")]
    epochs = [line for line in said if re.search(r"fold \d, seed 0, epoch \d+: ", line)]
    assert len(epochs) == len(set(epochs)) == 2 * pipeline.study.temporal.optim.epochs
    assert sum("kept epoch" in line for line in said) == 2


@pytest.mark.parametrize("index", [0, 1])
def test_two_ranks_and_one_process_give_the_same_losses_and_weights(pipeline: Any, index: int) -> None:
    fold = folds_of(pipeline.study)[index]
    unit = temporal.unit_of(pipeline.study, fold)
    expected, weights = in_one_process(pipeline.study, fold)
    two_ranks = json.loads((unit.folder / "history.json").read_text())
    assert len(two_ranks) == len(expected.epochs)
    for ours, theirs in zip(two_ranks, expected.epochs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert unit.manifest().measured["best_epoch"] == expected.best_epoch
    written = safetensors.torch.load_file(unit.folder / "weights.safetensors")
    assert written.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(
            written[name], value, atol=2e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_that_included_shares_which_two_ranks_cannot_halve(pipeline: Any) -> None:
    folds = folds_of(pipeline.study)
    data = fold_data(pipeline.study, folds[0], ["eeg"], pipeline.study.windows)
    numbers = {len(data.keys(side)) % 2 for fold in folds for side in (fold.train, fold.val)}
    assert numbers == {0, 1}


def test_the_backbone_is_not_among_the_weights(pipeline: Any) -> None:
    for unit in pipeline.units("temporal"):
        names = safetensors.torch.load_file(unit / "weights.safetensors").keys()
        assert not any("backbone" in name and "lora_" not in name and "rotary" not in name for name in names)
        assert (unit / "weights.safetensors").stat().st_size < 3e6


def test_one_process_trains_without_deepspeed(
    pipeline: Any, mtkd: Callable[..., Any], repo: Path, tmp_path: Path
) -> None:
    study = pipeline.copy(tmp_path / "workspace")
    changes = [f"temporal.accelerate={repo / 'configs/accelerate/cpu_one.yaml'}", "temporal.deepspeed=null"]
    changes += ["temporal.optim.epochs=1", "temporal.max_tokens=60", f"workspace={study.workspace}"]
    ended = mtkd("temporal", pipeline.file, *changes)
    assert ended.code == 0, ended.err
    found = [json.loads(path.read_text()) for path in (tmp_path / "workspace/temporal").glob("*/manifest.json")]
    new = [manifest["measured"] for manifest in found if manifest["measured"]["n_epochs"] == 1]
    assert [measured["engine"] for measured in new] == ["torch", "torch"]
