"""The whole pipeline through the command line: once after a crash, once more, and changed."""

import csv
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtkd.files import write_json

STAGES = ["shards", "backbone", "temporal", "spatial", "cache", "distill", "sweep", "evaluate"]


def manifests(pipeline: Any) -> dict[str, int]:
    """Time of writing of every unit's manifest."""
    return {
        str(path.relative_to(pipeline.study.workspace)): path.stat().st_mtime_ns
        for path in Path(pipeline.study.workspace).glob("*/*/manifest.json")
    }


def test_a_killed_rank_ends_the_run_with_one_sentence(pipeline: Any) -> None:
    assert pipeline.killed.code == 2
    assert "Traceback" not in pipeline.killed.err + pipeline.killed.out
    assert pipeline.killed.err.count("mtkd: ") == 1
    line = pipeline.killed.err.splitlines()[-1]
    log = Path(pipeline.study.workspace) / "temporal/launch.log"
    assert re.fullmatch(
        rf"mtkd: temporal: accelerate launch with \S+ ended with exit code \d+, see {log}; the next .+ checkpoint", line
    )


def test_a_killed_rank_leaves_nothing_under_a_final_name(pipeline: Any) -> None:
    assert {path.name for path in pipeline.left if path.suffix != ".checkpoints"} == {"launch.log"}


def test_the_next_run_finishes(pipeline: Any) -> None:
    assert pipeline.first.code == 0, pipeline.first.err
    assert {stage: bool(pipeline.units(stage)) for stage in STAGES} == dict.fromkeys(STAGES, True)
    leftovers = [path for path in Path(pipeline.study.workspace).rglob(".*") if "partial" in path.name]
    assert not leftovers


def test_standard_error_stays_clean(pipeline: Any) -> None:
    assert "Traceback" not in pipeline.first.err
    assert "mtkd:" not in pipeline.first.err


def test_the_table_names_every_model(pipeline: Any) -> None:
    rows = re.findall(r"^│ (.+?) +│ (.+) │$", pipeline.first.out, flags=re.MULTILINE)
    table = {name: re.findall(r"(\d\.\d\d) ± (\d\.\d\d)", numbers) for name, numbers in rows if "±" in numbers}
    assert list(table) == [
        "majority",
        "class share",
        "temporal teacher",
        "spatial teacher",
        "labels alone",
        "distilled",
        "distilled, swept",
    ]
    assert all(len(numbers) == 4 for numbers in table.values())  # two measures by window and by trial


def test_the_run_names_a_report_and_results_that_exist(pipeline: Any) -> None:
    (report,) = re.findall(r"report +(\S+\.html)", pipeline.first.out)
    (results,) = re.findall(r"results +(\S+\.json)", pipeline.first.out)
    assert "<html" in Path(report).read_text().lower()
    content = json.loads(Path(results).read_text())
    assert content["provenance"]["study"] == json.loads(json.dumps(pipeline.study.model_dump()))


def test_a_second_run_reuses_everything_and_is_fast(pipeline: Any, mtkd: Callable[..., Any]) -> None:
    before, started = manifests(pipeline), time.perf_counter()
    again = mtkd("run", pipeline.file)
    assert again.code == 0
    assert time.perf_counter() - started < 30
    assert manifests(pipeline) == before
    for stage in ("shards", "temporal", "spatial", "cache", "distill", "sweep", "evaluate"):
        assert re.search(rf"^{stage} .* reused ", again.out, flags=re.MULTILINE), stage
    assert not re.search("epoch|trained|built|simulating|unpacking", again.out)
    assert "labels alone" in again.out  # the table is shown again


def test_changing_a_loss_weight_trains_the_distilled_students_again_and_nothing_upstream(
    pipeline: Any, mtkd: Callable[..., Any], tmp_path: Path
) -> None:
    workspace = Path(pipeline.copy(tmp_path / "workspace").workspace)
    given = [pipeline.file, f"workspace={workspace}", "distill.kd=0.25"]
    before = names(workspace)
    for stage in ("shards", "temporal", "spatial", "cache"):
        done = mtkd(stage, *given)
        assert done.code == 0
        assert "reused" in done.out
    assert names(workspace) == before
    done = mtkd("distill", *given, "evaluate.students={labels alone: {teachers: {}}, distilled: {}}")
    assert done.code == 0
    assert "labels alone: reused 2 of 2 trainings" in done.out  # the weight means nothing to it
    new = names(workspace) - before
    assert sorted(name.rpartition("-")[0] for name in new) == ["distill/fold-0", "distill/fold-1"]
    assert mtkd("evaluate", *given).code == 0  # a search of this very weight does not depend on it
    refused = mtkd("evaluate", *given, "distill.dropout=0.3")
    assert refused.code == 2
    assert "run `mtkd distill` first" in refused.err


@pytest.mark.gpu
def test_the_whole_road_on_a_gpu(
    make_study: Callable[..., Any], mtkd: Callable[..., Any], tiny_llama: Path, repo: Path, tmp_path: Path
) -> None:
    study = make_study(
        f"temporal.backbone={tiny_llama}",
        "temporal.dtype=bfloat16",
        f"temporal.accelerate={repo / 'configs/accelerate/one_gpu.yaml'}",
        "evaluate.students={labels alone: {teachers: {}, ce: 1.0}, distilled: {}}",
        "predict.student=distilled",
        workspace=tmp_path / "ws",
    )
    write_json(tmp_path / "study.yaml", study.model_dump())
    for stage in ("shards", "temporal", "spatial", "cache", "distill", "evaluate", "predict"):
        done = mtkd(stage, tmp_path / "study.yaml")
        assert done.code == 0, done.err
    gpu = torch.cuda.get_device_name()
    planned = mtkd("plan", tmp_path / "study.yaml", "--nodes", 1, "--gpus-per-node", 1, "--gpu-memory", 80)
    assert f"measured here ({gpu}, bfloat16" in planned.out
    engines = {
        stage: json.loads(path.read_text())["measured"].get("engine")
        for stage in ("temporal", "spatial")
        for path in (tmp_path / "ws" / stage).glob("fold-*/manifest.json")
    }
    assert engines == {"temporal": f"DeepSpeed ZeRO-2, 1 rank on {gpu}", "spatial": f"torch on {gpu}"}


def names(workspace: Path) -> set[str]:
    return {str(path.relative_to(workspace)) for stage in STAGES for path in (workspace / stage).iterdir()}


def test_a_deleted_teacher_is_trained_again_to_the_same_weights(
    pipeline: Any, mtkd: Callable[..., Any], tmp_path: Path
) -> None:
    study = pipeline.copy(tmp_path / "workspace")
    gone, stays = sorted((tmp_path / "workspace/spatial").iterdir())
    weights = (gone / "weights.safetensors").read_bytes()
    shutil.rmtree(gone)
    refused = mtkd("distill", pipeline.file, f"workspace={study.workspace}")
    assert refused.code == 2
    assert refused.err == f"mtkd: {gone}: not there yet; run `mtkd spatial` first\n"
    done = mtkd("spatial", pipeline.file, f"workspace={study.workspace}")
    assert done.code == 0
    assert done.out.count("trained") == 1
    assert f"reused {stays}" in done.out
    assert (gone / "weights.safetensors").read_bytes() == weights
    later = mtkd("cache", pipeline.file, f"workspace={study.workspace}")
    assert later.out.count("reused") == 4  # what depends on a unit depends on its bytes, which are the same


def test_predictions_along_the_wearables_recording(pipeline: Any) -> None:
    (folder,) = (Path(pipeline.study.workspace) / "predict").glob("wearable-*")
    with (folder / "wearable-distilled-prediction.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    names = pipeline.study.class_names
    assert header == ["start_s", "stop_s", *[f"p({name})" for name in names], "confidence"]
    values = np.array(rows, float)
    window_s, hop_s = pipeline.study.windows.window_s, pipeline.study.windows.hop_s
    assert len(values) == 31  # three trials of 3 + 60 s in windows of 6 s, of which the first starts after the lead
    assert values[:, 0] == pytest.approx(pipeline.study.signals.lead_s + np.arange(len(values)) * hop_s)
    assert values[:, 1] == pytest.approx(values[:, 0] + window_s)
    assert values[:, 2:-1].sum(1) == pytest.approx(1, abs=1e-5)
    assert ((values[:, 2:] > 0) & (values[:, 2:] < 1)).all()
    assert np.ptp(values[:, 2:], axis=0).min() > 0  # answers follow the recording
