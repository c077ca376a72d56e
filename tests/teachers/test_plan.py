"""The plan of a training against the training itself, and what must hold of any plan."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.files import write_json
from mtkd.shards.build import run as build_shards
from mtkd.signals.splits import Fold
from mtkd.teachers.temporal import plan
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.rate import fill, loss_of
from mtkd.teachers.temporal.train import loaders, patches
from mtkd.teachers.temporal.unpack import outline, unpack
from mtkd.teachers.temporal.work import teacher_of, work_of
from mtkd.training.fold import fold_data, folds_of, quiet_libraries
from mtkd.training.footprint import activations, imagine
from mtkd.training.runtime import Runtime

CHANGES = (
    "temporal.lora={r: 128, alpha: 128}",
    "temporal.patch_s=6",
    "temporal.optim.batch_size=8",
)


@pytest.fixture(scope="module")
def llama_100m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of a hundred million weights, which are most of what its training takes."""
    import transformers

    quiet_libraries()
    config = transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=9,
        num_attention_heads=16,
        num_key_value_heads=4,
        vocab_size=61,
    )
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def studies(
    make_study: Callable[..., Study], llama_100m: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Study]:
    """Of a tiny backbone and of that one, ready to be trained."""
    workspace = tmp_path_factory.mktemp("plan") / "ws"
    made = [
        make_study(f"temporal.backbone={folder}", "temporal.layers=null", *CHANGES, workspace=workspace)
        for folder in (tiny_llama, llama_100m)
    ]
    build_shards(made[0])
    for study in made:
        unpack(study)
    return made


@pytest.mark.parametrize("stage", ["2", "3"])
def test_a_training_takes_the_memory_that_was_planned(
    repo: Path, studies: list[Study], tmp_path: Path, stage: str
) -> None:
    """Measured when this was written, as a share of the plan: 0.93 for 1, 0.95 for 2, 1.00 for 3 and 3 with offload."""
    planned = plan.run(studies[1], 1, 2, 8.0, rate=1.0, cpu=True)[stage].total
    measured = most_memory(repo, studies, tmp_path, stage, "cpu_two_ranks", 2)
    print(f"ZeRO-{stage}: planned {planned / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB")
    assert measured == pytest.approx(planned, rel=0.15)


@pytest.mark.gpu
@pytest.mark.parametrize("stage", ["1", "2", "3", "3_offload"])
def test_a_training_on_a_gpu_takes_the_memory_that_was_planned(
    repo: Path, studies: list[Study], tmp_path: Path, stage: str
) -> None:
    planned = plan.run(studies[1], 1, 1, 80.0, rate=1.0)[stage.replace("_", ", ")].total
    measured = most_memory(repo, studies, tmp_path, stage, "one_gpu", 1)
    print(f"ZeRO-{stage}: planned {planned / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB")
    assert measured == pytest.approx(planned, rel=0.15)


def most_memory(repo: Path, studies: list[Study], tmp_path: Path, stage: str, config: str, n_ranks: int) -> int:
    """Bytes that a rank had at its peak, above what it had before, of the rank that had most."""
    files = [tmp_path / "warm.yaml", tmp_path / "study.yaml"]
    for study, file in zip(studies, files, strict=True):
        settings = study.temporal.model_copy(update={"deepspeed": str(repo / f"configs/deepspeed/zero{stage}.json")})
        write_json(file, study.model_copy(update={"temporal": settings}).model_dump())
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(repo / f"configs/accelerate/{config}.yaml")]
    command += [str(repo / "tests/teachers/measured_rank.py"), *map(str, files), str(tmp_path)]
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": scripts,
        "PYTHONPATH": os.pathsep.join([str(repo), *sys.path]),
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return max(int(json.loads((tmp_path / f"{rank}.json").read_text())) for rank in range(n_ranks))


def world(study: Study, ranks: int) -> Runtime:
    runtime = Runtime(study.temporal.optim)
    runtime.world = ranks
    return runtime


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_all_tokens_of_all_trials_are_counted(studies: list[Study], tmp_path: Path, ranks: int) -> None:
    """Two folds of four subjects with four trials, one of which trains with two subjects and has one to validate."""
    study = studies[0]
    work = work_of(study, outline(study, tmp_path / "outline"), world(study, ranks))
    samples = {each.key: each for each in work.data.cutter.shards.index.samples}
    model = teacher_of(study, work.data, outline(study, tmp_path / "again"))
    sizes = [model.n_tokens(samples[key], work.data.cutter.n_steps(samples[key])) for key in work.largest]
    assert work.most == sum(sizes) <= study.temporal.max_tokens
    assert work.n_trials == work.n_teachers * 8
    assert work.n_tokens == work.n_trials * sizes[0]
    assert work.slowest == sum(slowest_of(study, fold, model, ranks) for fold in folds_of(study))


def slowest_of(study: Study, fold: Fold, model: TemporalTeacher, ranks: int) -> int:
    """Tokens of the rank that has most, over the steps of all epochs and the validation after each."""
    data = fold_data(study, fold, study.temporal.modalities, patches(study))
    n_tokens = 0
    for loader in loaders(study, data, model, world(study, ranks)):
        for epoch in range(study.temporal.optim.epochs):
            loader.set_epoch(epoch)
            for shares in loader.sampler.of_all_ranks():
                own = [[trial for piece in share for trial in piece if trial >= 0] for share in shares]
                n_tokens += max(sum(loader.sampler.sizes[trial] for trial in trials) for trials in own)
    return n_tokens


@pytest.mark.parametrize(
    "change",
    ["pretrained=false", "backbone='one-layer attention'", "causal=false", "confidence_weight=0"],
)
def test_what_stands_in_the_teachers_place_can_be_planned(
    make_study: Callable[..., Study], studies: list[Study], capsys: pytest.CaptureFixture[str], change: str
) -> None:
    of_tiny = f"temporal.backbone={studies[0].temporal.backbone}"
    beside = "evaluate.teachers={its own: {temporal: {pretrained: false}}}"
    layers = "temporal.layers=2"  # as in a study that is shipped
    given = [of_tiny, *CHANGES, layers, f"temporal.{change}", beside]
    plan.run(make_study(*given, workspace=Path(studies[0].workspace)), 1, 1, 80.0, rate=1.0)
    assert "not planned: the teachers of evaluate.teachers, its own;" in capsys.readouterr().out


def test_ranks_that_would_have_nothing_to_do_are_told(studies: list[Study], capsys: pytest.CaptureFixture[str]) -> None:
    plan.run(studies[0], 1, studies[0].temporal.optim.batch_size, 80.0, rate=1.0)
    assert "larger temporal.optim.batch_size" not in capsys.readouterr().out
    plan.run(studies[0], 100_000, 8, 80.0, rate=1.0)  # in a moment, whatever their number
    n_used = studies[0].temporal.optim.batch_size
    assert f"at most {n_used} ranks of the 800,000 have a trial in a step" in capsys.readouterr().out


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_teacher_computes_on_is_counted_as_if_it_were_computed(
    studies: list[Study], tmp_path: Path, checkpointing: bool
) -> None:
    settings = studies[0].temporal.model_copy(update={"activation_checkpointing": checkpointing})
    study = studies[0].model_copy(update={"temporal": settings})
    backbone = outline(study, tmp_path / "outline")
    data = work_of(study, backbone, world(study, 2)).data
    batch = data.cutter.batch(data.keys(data.fold.train)[:3])
    real = teacher_of(study, data, backbone).to_empty(device="cpu")
    fill(real)
    expected = activations(real, lambda each: loss_of(study, data, batch, each))
    imagined = imagine(teacher_of(study, data, backbone))
    assert activations(imagined, lambda each: loss_of(study, data, batch, each)) == pytest.approx(expected, rel=0.02)


def test_a_smaller_micro_batch_takes_less_memory_and_more_of_them(studies: list[Study], tmp_path: Path) -> None:
    small = studies[0].model_copy(update={"temporal": studies[0].temporal.model_copy(update={"max_tokens": 60})})
    found = [
        work_of(each, outline(each, tmp_path / f"{index}"), world(each, 2))
        for index, each in enumerate([studies[0], small])
    ]
    assert found[1].n_micro > found[0].n_micro
    assert found[1].most < found[0].most
    assert found[1].n_tokens == found[0].n_tokens
    assert found[1].share_bytes == found[0].share_bytes


def test_nothing_of_a_backbone_is_read_but_its_configuration(
    make_study: Callable[..., Study], studies: list[Study], tmp_path: Path
) -> None:
    """Seventy thousand million weights, of which there is a file without content."""
    import transformers

    config = transformers.LlamaConfig(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, vocab_size=9)
    config.save_pretrained(tmp_path / "large")
    (tmp_path / "large/model.safetensors").touch()
    changes = [f"temporal.backbone={tmp_path / 'large'}", "temporal.layers=2", "temporal.dtype=bfloat16"]
    found = plan.run(make_study(*changes, workspace=Path(studies[0].workspace)), 2, 4, 80.0, rate=1.0)
    assert found["2"].frozen == pytest.approx(2 * 2 * (4 * 8192**2 + 3 * 8192 * 28672), rel=0.001)
    assert found["3"].frozen == found["2"].frozen // 8
    assert found["3, offload"].host > found["3"].host == 0


def test_a_configuration_alone_can_be_planned(
    make_study: Callable[..., Study], studies: list[Study], tiny_llama: Path, tmp_path: Path
) -> None:
    """Before a backbone's weights are fetched."""
    shutil.copy(tiny_llama / "config.json", tmp_path)
    given = [f"temporal.backbone={tmp_path}", "temporal.layers=null", *CHANGES]
    plan.run(make_study(*given, workspace=Path(studies[0].workspace)), 1, 1, 80.0, rate=1.0)


def test_a_rate_is_measured_where_none_is_given(
    studies: list[Study], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtkd.teachers.temporal.rate._SECONDS", 0.1)
    plan.run(studies[0], 1, 1, 0.001)
    said = capsys.readouterr().out
    assert "measured here (CPU" in said
    assert "no stage that could be started here fits into 0.001 GB" in said
    plan.run(studies[0], 1, 1, 80.0, rate=5000.0)
    said = capsys.readouterr().out
    assert "at 5,000 tokens/s a rank, given" in said
    assert "ZeRO 1 is the first to start here with 15 % of 80 GB" in said  # what is shipped for a GPU starts DeepSpeed
    plan.run(studies[0], 1, 1, 80.0, rate=5000.0, cpu=True)
    advice = (
        "ZeRO 0 is the first to start here with 15 % of 80 GB to spare: temporal.deepspeed=null temporal.accelerate="
    )
    assert advice + "configs/accelerate/cpu_one.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"), [("nodes", 0), ("gpus-per-node", -1), ("gpu-memory", 0), ("tokens-per-second", float("nan"))]
)
def test_numbers_that_mean_nothing_are_refused(
    studies: list[Study], tmp_path: Path, mtkd: Callable[..., Any], option: str, value: float
) -> None:
    write_json(tmp_path / "study.yaml", studies[0].model_dump())
    done = mtkd("plan", tmp_path / "study.yaml", f"--{option}", value)
    assert done.code == 2
    assert f"--{option} is {value:g}, not above 0" in done.err


@pytest.mark.parametrize("option", ["nodes", "gpus-per-node", "gpu-memory", "tokens-per-second"])
def test_numbers_without_end_are_refused(
    studies: list[Study], tmp_path: Path, mtkd: Callable[..., Any], option: str
) -> None:
    write_json(tmp_path / "study.yaml", studies[0].model_dump())
    done = mtkd("plan", tmp_path / "study.yaml", f"--{option}", 10**13)
    assert done.code == 2
    assert f"--{option} is 1e+13, not above 0 or without end" in done.err


def test_what_is_missing_is_told(make_study: Callable[..., Study], studies: list[Study]) -> None:
    with pytest.raises(MtkdError, match="run `mtkd shards` first"):
        plan.run(make_study(), 1, 1, 80.0, rate=1.0)
    workspace = Path(studies[0].workspace)
    with pytest.raises(MtkdError, match=r"temporal\.backbone = package:nowhere"):
        plan.run(make_study("temporal.backbone=package:nowhere", *CHANGES, workspace=workspace), 1, 1, 80.0, rate=1.0)
    missing = make_study(f"temporal.backbone={studies[0].temporal.backbone}", "temporal.layers=9", workspace=workspace)
    with pytest.raises(MtkdError, match=r"temporal\.layers = 9"):
        plan.run(missing, 1, 1, 80.0, rate=1.0)
