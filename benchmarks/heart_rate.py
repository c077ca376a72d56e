"""What the heart rate alone tells: ``python benchmarks/heart_rate.py STUDY [key=value ...] --over KEY V1 V2 ...``.

A study whose student hears an ECG is drawn as ``curves.py`` draws it. Each of its models is held against a logistic
regression of one number, the mean interval between the beats of a window, that learns from the same labelled windows
of the same folds. Whoever takes a poor baseline for granted may be proud of little.
"""

from typing import Any

import numpy as np
import torch
from rows import Rows, finish
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from studies import LEVELS, METRICS, Comparison, Figures, add_comparisons, drawn, figures, given_over, workspace

from mtkd.config import Study
from mtkd.evaluate.answers import Answering
from mtkd.evaluate.metrics import summary
from mtkd.evaluate.predictions import Predictions
from mtkd.layers.heads import TeacherSignal
from mtkd.layers.rhythm import RHYTHMS, intervals
from mtkd.shards.batch import Batch
from mtkd.signals.splits import Fold
from mtkd.study import read_study
from mtkd.training.fold import folds_of

STRENGTH = 0.1  # of scikit-learn's penalty, the same for all numbers of subjects


def heart_rate(study: Study, batch: Batch) -> np.ndarray:
    """(trial, window) logarithm of the mean interval between beats, seconds; NaN where there is none."""
    sfreq = study.signals.modalities["ecg"].sfreq
    found, known = intervals(batch.signals["ecg"][:, :, 0], sfreq, RHYTHMS["ecg"])
    heard = known[..., 0] & batch.valid["ecg"][:, :, 0]
    return torch.where(heard, found[..., 0], torch.nan).numpy()


def answers(study: Study, fold: Fold) -> Predictions:
    """Of a fold's test subjects, by what its labelled training subjects taught."""
    asked = Answering(study, fold, ["ecg"])
    batch = asked.data.cutter.batch(asked.data.keys(fold.train))
    rate, steps = heart_rate(study, batch), batch.steps.numpy()
    known = steps & np.isfinite(rate) & (batch.labels.numpy() >= 0)[:, None]
    usual = rate[known].mean()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, class_weight="balanced"))
    model.fit(rate[known][:, None], np.broadcast_to(batch.labels.numpy()[:, None], steps.shape)[known])
    return Predictions.concatenate([asked.rows(_said(study, model, each, usual), each) for each in asked.batches()])


def _said(study: Study, model: Any, batch: Batch, usual: float) -> TeacherSignal:
    rate = heart_rate(study, batch)
    probs = model.predict_proba(np.where(np.isfinite(rate), rate, usual).reshape(-1, 1))
    logits = torch.from_numpy(np.log(probs)).reshape(*rate.shape, -1)
    ones = torch.ones(rate.shape)
    return TeacherSignal(logits, torch.zeros(*rate.shape, 1), 0.5 * ones, ones.bool())


def of_draws(study: str, given: list[str], n_draws: int) -> dict[str, list[dict[str, dict[str, float]]]]:
    """By level, draw and subject, each metric."""
    tables: dict[str, list[dict[str, Any]]] = {level: [] for level in LEVELS}
    for draw in range(n_draws):
        made = read_study(study, [*given, f"seed={draw}", f"splits.seed={draw}"])
        rows = Predictions.concatenate([answers(made, fold) for fold in folds_of(made)]).labelled()
        for level, own in (("window", rows), ("trial", rows.per_trial())):
            tables[level].append(summary(own, made.evaluate.n_bins)["subjects"])
    return tables


def comparisons(name: str, found: list[dict[str, Any]], alone: dict[str, list[Any]]) -> list[Comparison]:
    """Of each trained model with the heart rate."""
    models = [each["name"] for each in found[0]["models"] if each["kind"] in ("teacher", "student")]
    wanted = [(level, metric, model) for level in LEVELS for metric in METRICS for model in models]
    return [
        Comparison(
            f"{name}, “{model}”, {METRICS[metric]} by {level}, against the heart rate",
            figures(found, level, model, metric),
            _column(alone[level], metric),
        )
        for level, metric, model in wanted
    ]


def _column(draws: list[dict[str, dict[str, float]]], metric: str) -> Figures:
    values = [{subject: own[metric] for subject, own in table.items()} for table in draws]
    return [{subject: None if np.isnan(value) else value for subject, value in own.items()} for own in values]


def main() -> None:
    """Train, evaluate, tell."""
    given, rows, every = given_over(__doc__), Rows(), []
    with workspace(given.keep) as folder:
        for value in given.values:
            words = [*given.changes, f"workspace={folder}", f"{given.key}={value}"]
            found = drawn(given.study, words, given.draws)
            alone = of_draws(given.study, words, given.draws)
            every += comparisons(f"{given.key.split('.')[-1]} {value}", found, alone)
    add_comparisons(rows, every, given.draws)
    finish(f"heart_rate.py, {found[0]['study']['name']}, {given.key}", rows, given.json)


if __name__ == "__main__":
    main()
