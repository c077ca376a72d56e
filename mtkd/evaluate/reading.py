"""The outcome in plain language, from the numbers alone: what is shown, and just as plainly what is not."""

from typing import Any

from mtkd.evaluate.best import NO_EEG

NAMES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "auroc_among_all": "AUROC among all subjects"}
SEEDS_FOR_A_CLAIM = 5
TRIALS_A_CLASS = 5
"""Of a subject, from which on its figures by trial are worth a sentence."""


def number(value: float | None, form: str = ".2f") -> str:
    """The number in a format, or a dash where there is none."""
    return "—" if value is None else format(value, form)


def percent(value: float | None) -> str:
    """A share as a whole percentage."""
    return "—" if value is None else f"{value:.0%}".replace("%", " %")


def listed(words: list[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def with_sd(entry: dict[str, Any], metric: str) -> str:
    """ "0.61 ± 0.08", a summary's mean and standard deviation over subjects; without the latter for one subject."""
    mean, sd = entry["mean"][metric], entry["sd"][metric]
    return number(mean) if mean is None or sd is None else f"{mean:.2f} ± {sd:.2f}"


def p_value(value: float | None) -> str:
    """Three decimals, or that it is below."""
    return "—" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def reading(results: dict[str, Any]) -> list[str]:
    """Sentences on all classes: the first distilled student, the one it is compared with, the best teacher.

    By trial, or by window where a subject has hardly more than one trial a class: from so few no figure of a subject
    follows but 0, a half and 1.
    """
    level = _level(results)
    block = results["levels"][level]["joint"]
    student, baseline = _headline(results, block)
    best = block["best_teacher"].get("auroc")
    levels = _levels(block, level, [student, baseline] if student else [baseline], best)
    if student:
        sentences = [_verdict(results, block, student, baseline), levels, *_tests(results, block, student, baseline)]
        sentences += _gap(results, block, student, baseline)
        sentences += _others(results, block, student)
    else:
        sentences = ["No distilled student was evaluated, so nothing is said about distillation.", levels]
    sentences += _chance(block, [student, baseline, best])
    sentences += _possible(block, student or baseline)
    sentences += _beside(results, block)
    sentences += _elsewhere(results, level)
    n_seeds = results["protocol"]["n_seeds"]
    if n_seeds < SEEDS_FOR_A_CLAIM:
        seeds = "one training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
        sentences.append(f"These numbers come from {seeds}; the protocol asks for {SEEDS_FOR_A_CLAIM} before a claim.")
    return sentences


def _level(results: dict[str, Any]) -> str:
    block = results["levels"]["trial"]["joint"]
    counts = block["chance"]["n_trials_per_class"]
    n_subjects = len(block["models"][results["study"]["baseline"]]["subjects"])
    return "trial" if sum(counts) >= TRIALS_A_CLASS * len(counts) * n_subjects else "window"


def _beside(results: dict[str, Any], block: dict[str, Any]) -> list[str]:
    """Of the teachers that teach nobody, those that are shown to differ from the one that does."""
    tests = block["beside"]
    hits = [
        f"“{entry['model']}” is {outcome(entry, results['protocol']['alpha'])} than “{entry['baseline']}” in "
        f"{NAMES[entry['metric']]} ({_test(entry)})"
        for entry in tests
        if _shown(results, entry)
    ]
    if not tests:
        return []
    nothing = "No teacher of evaluate.teachers is shown to differ from the one that teaches."
    return [f"{hit}." for hit in hits] or [nothing]


def _elsewhere(results: dict[str, Any], level: str) -> list[str]:
    """What the other tables show, each of which is corrected for its own comparisons only."""
    hits = [
        f"{'all classes' if target == 'joint' else target} by {own}, “{entry['model']}” is "
        f"{outcome(entry, results['protocol']['alpha'])} than “{entry['baseline']}” in {NAMES[entry['metric']]}"
        for own, blocks in results["levels"].items()
        for target, block in blocks.items()
        for entry in block["comparisons"]
        if (own, target) != (level, "joint") and _shown(results, entry)
    ]
    return [f"Other tables, each corrected for its own comparisons only: {'; '.join(hits)}."] if hits else []


def _headline(results: dict[str, Any], block: dict[str, Any]) -> tuple[str | None, str]:
    """The first student with teachers, and whom it is compared with; without one, only the baseline."""
    alone = {results["study"]["baseline"], *results["study"].get("alone", [])}
    pairs = [(entry["model"], entry["baseline"]) for entry in block["comparisons"] if entry["model"] not in alone]
    return pairs[0] if pairs else (None, results["study"]["baseline"])


def _levels(block: dict[str, Any], level: str, students: list[str], teacher: str | None) -> str:
    def one(name: str) -> str:
        entry = block["models"][name]
        accuracy, within, among_all = (with_sd(entry, metric) for metric in NAMES)
        return f"a balanced accuracy of {accuracy}, an AUROC of {within} and one of {among_all} among all subjects"

    parts = [f"the student “{name}”, without EEG, reaches {one(name)}" for name in students]
    if teacher:
        parts.append(f"“{teacher}”, of the teachers, which read EEG, that of the highest AUROC, {one(teacher)}")
    what = f"whole {level}s" if level == "trial" else f"{level}s"
    return f"Deciding {what} of unseen subjects among all classes (mean ± sd over them), {'; '.join(parts)}."


def outcome(comparison: dict[str, Any], alpha: float) -> str:
    """``higher``, ``lower`` or ``not shown to differ``, by the corrected two-sided p and the sign of the mean."""
    p = comparison["p_holm"]
    if p is None or p >= alpha:
        return "not shown to differ"
    return "higher" if comparison["mean_difference"] > 0 else "lower"


def _verdict(results: dict[str, Any], block: dict[str, Any], student: str, baseline: str) -> str:
    alpha = results["protocol"]["alpha"]
    found = [outcome(entry, alpha) for entry in block["comparisons"] if entry["model"] == student]
    higher, lower = found.count("higher"), found.count("lower")
    if not higher and not lower:
        return f"That “{student}” differs from “{baseline}” is not shown."
    if higher and lower:
        return f"“{student}” is better than “{baseline}” by one measure and worse by another."
    word = "better" if higher else "worse"
    n_shown = higher + lower
    measures = "." if n_shown == len(found) else f", by {n_shown} of {len(found)} measures."
    return f"“{student}” is {word} than “{baseline}”{measures}"


def _tests(results: dict[str, Any], block: dict[str, Any], student: str, baseline: str) -> list[str]:
    alpha, n_tests = results["protocol"]["alpha"], len(block["comparisons"])
    mine = [entry for entry in block["comparisons"] if entry["model"] == student]
    parts = [f"{NAMES[entry['metric']]} is {outcome(entry, alpha)} ({_test(entry)})" for entry in mine]
    sentences = [f"Against “{baseline}”, for “{student}” {listed(parts)}."]
    smallest = min((entry["p_smallest"] for entry in mine if entry["p_smallest"] is not None), default=None)
    if smallest is not None and smallest * n_tests >= alpha:
        sentences.append(
            f"With so many differing subjects the smallest p there can be is {p_value(smallest)}, which correction for "
            f"{n_tests} comparisons takes to {alpha} or above: this study is too small to show a difference."
        )
    return sentences


def _test(entry: dict[str, Any]) -> str:
    if not entry["n"]:
        return "no subject has it"
    p, corrected = p_value(entry["p"]), p_value(entry["p_holm"])
    p = p if p.startswith("<") else f"= {p}"
    subjects = f"{entry['n']} subjects"
    if entry["n_differing"] < entry["n"]:
        subjects += f" of whom {entry['n_differing']} differ{'s' if entry['n_differing'] == 1 else ''}"
    return f"{entry['mean_difference']:+.3f}{between(entry)} over {subjects}, p {p}, after correction {corrected}"


def between(entry: dict[str, Any]) -> str:
    """ " (+0.02 to +0.18)", the interval of a mean difference; nothing where there is none."""
    low, high = entry["interval"]
    return "" if low is None or high is None else f" ({low:+.2f} to {high:+.2f})"


def _gap(results: dict[str, Any], block: dict[str, Any], student: str, baseline: str) -> list[str]:
    gaps, best = block["gap_closed"].get(student, {}), block["best_teacher"]
    shown = {e["metric"] for e in block["comparisons"] if e["model"] == student and _shown(results, e)}
    sentences = []
    for teacher in dict.fromkeys(best.values()):
        own = {metric: gap for metric, gap in gaps.items() if best[metric] == teacher}
        known = {metric: gap for metric, gap in own.items() if gap is not None}
        told = listed([f"{percent(gap)} in {NAMES[metric]}" for metric, gap in known.items()])
        missing = listed([NAMES[metric] for metric in own if metric not in known])
        if known:
            doubt = _doubt(len(known), len(shown.intersection(known)))
            sentences.append(f"Of the gap from “{baseline}” to “{teacher}” it closes {told} on average{doubt}.")
        if missing:
            sentences.append(f"That there is a gap from “{baseline}” to “{teacher}” in {missing} is not shown.")
    return sentences


def _doubt(n_told: int, n_shown: int) -> str:
    """Said of gains that are told, of which not all are shown."""
    if n_shown == n_told:
        return ""
    if n_told == 1:
        return ", though that is not shown"
    return f", though {'not every one' if n_shown else 'none'} of these differences is shown"


def _shown(results: dict[str, Any], comparison: dict[str, Any]) -> bool:
    return outcome(comparison, results["protocol"]["alpha"]) != "not shown to differ"


def _others(results: dict[str, Any], block: dict[str, Any], student: str) -> list[str]:
    alpha = results["protocol"]["alpha"]
    tests = [entry for entry in block["comparisons"] if entry["model"] != student]
    if not tests:
        return []
    sentences = []
    for word in ("higher", "lower"):
        hits: dict[tuple[str, str], list[str]] = {}
        for entry in tests:
            if outcome(entry, alpha) == word:
                hits.setdefault((entry["model"], entry["baseline"]), []).append(NAMES[entry["metric"]])
        for (model, baseline), metrics in hits.items():
            sentences.append(f"After correction “{model}” is {word} than “{baseline}” in {listed(metrics)}.")
    return sentences or ["No other student is shown to differ from the one it is compared with."]


def _chance(block: dict[str, Any], names: list[str | None]) -> list[str]:
    limit = block["chance"]["limit"]
    if limit is None:
        return []
    pooled = {name: block["models"][name]["pooled"]["balanced_accuracy"] for name in names if name}
    sides: dict[str, list[str]] = {"Above": [], "Not above": []}
    for name, value in pooled.items():
        side = "Above" if value is not None and value > limit else "Not above"
        sides[side].append(f"“{name}” ({number(value)})")
    guessing = f"what guessing reaches on this many trials (a pooled balanced accuracy of {number(limit)})"
    return [f"{side} {guessing}: {', '.join(names)}." for side, names in sides.items() if names]


def _possible(block: dict[str, Any], student: str) -> list[str]:
    share = block["models"][student]["share_of_possible"].get(NO_EEG)
    if not share:
        return []
    best = block["models"][NO_EEG]["mean"]
    return [
        f"On these very trials the best possible predictor without EEG reaches a balanced accuracy of "
        f"{number(best['balanced_accuracy'])} and an AUROC of {number(best['auroc'])}; of what lies between chance and "
        f"that, “{student}” reaches {percent(share['balanced_accuracy'])} and {percent(share['auroc'])}."
    ]
