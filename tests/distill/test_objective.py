"""What a student is trained for: each loss by its name, with what the study says of it."""

from functools import partial
from typing import Any, get_args

import pytest
import torch

from mtkd.cache.source import CachedSource
from mtkd.config import LossName
from mtkd.distill import losses, relations
from mtkd.distill.combine import teacher_weights
from mtkd.distill.objective import PROJECTED
from mtkd.distill.train import _tell_settings, build_model, objective, train
from mtkd.study import changed
from mtkd.training.fold import fold_data, folds_of

NAMES: tuple[LossName, ...] = get_args(LossName)
KEYS = ["s03_t01", "s03_t02", "s01_t01", "s03_t03", "s01_t02"]  # the first has no label


def only(*names: str, **changes: Any) -> dict[str, Any]:
    return dict.fromkeys(NAMES, 0.0) | dict.fromkeys(names, 0.5) | changes


@pytest.mark.parametrize("among", ["batch", "subject"])
@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_term_of_every_teacher(pipeline: Any, name: LossName, among: str) -> None:
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    settings = changed(study.distill, only(name, relations=among, temperature=3.0, dkd_beta=2.0), "")
    data = fold_data(study, fold, settings.modalities, study.windows)
    torch.manual_seed(0)
    model = build_model(study, data.cutter.shards, fold, settings).eval()
    assert bool(model.projections) == (name in PROJECTED)
    batch, source = data.cutter.batch(KEYS), CachedSource(study, fold, ["temporal", "spatial"])
    made = objective(study, settings, data, source)
    terms, masks = made(model, batch), made.masks(model, batch)
    assert set(terms) == set(masks) == {"class", "confidence", f"{name}/temporal", f"{name}/spatial"}
    said, ours = source(batch), model(batch)
    shares = teacher_weights(said, settings.weighting, batch.labels)
    for teacher, theirs in said.items():
        mask, student = ours.mask & theirs.mask, ours
        if name in PROJECTED:
            student = ours._replace(features=model.projections[teacher](ours.features, source.asked(batch)))
        target = batch.labels[:, None].expand(mask.shape).clone()
        target[0] = theirs.logits[0].argmax(-1)
        group = torch.tensor([3, 3, 1, 3, 1])[:, None].expand(mask.shape) if among == "subject" else None
        options = {
            "kd": {"temperature": 3.0},
            "logit_std": {"temperature": 3.0},
            "dist": {"temperature": 3.0},
            "dkd": {"temperature": 3.0, "beta": 2.0, "target": target},
            "dist_within": {"temperature": 3.0, "group": group},
            "hint": {},
            "attention": {},
        }.get(name, {"group": group})
        loss = getattr(losses, name, None) or getattr(relations, name)
        expected = shares[teacher] * partial(loss, **options)(student, theirs, mask)
        term = terms[f"{name}/{teacher}"]
        torch.testing.assert_close(term.value, expected)
        assert torch.equal(term.mask, mask)
        assert torch.equal(masks[f"{name}/{teacher}"], mask)
        assert term.weight == 0.5 * settings.teachers[teacher]


def test_a_student_learns_from_all_of_them_at_once(pipeline: Any) -> None:
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    settings = changed(study.distill, only(*NAMES, relations="subject", **{"optim.epochs": 2}), "")
    model, history, _ = train(study, fold, settings)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    for name in NAMES:
        means = [epoch[f"train/{name}/{teacher}"] for epoch in history.epochs for teacher in settings.teachers]
        assert all(mean == mean and mean >= 0 for mean in means)


@pytest.mark.parametrize("name", NAMES)
def test_what_teaches_little_of_two_classes_is_told(
    pipeline: Any, name: LossName, capfd: pytest.CaptureFixture[str]
) -> None:
    quadrants = pipeline.study
    binary = quadrants.model_copy(update={"labels": {"valence": 5.0}})
    for study in (quadrants, binary):
        _tell_settings(study, "distilled", {name})
        told = f"distilled: of two classes {losses.OF_TWO_CLASSES.get(name)}"
        assert (told in capfd.readouterr().out) == (study is binary and name in losses.OF_TWO_CLASSES)
