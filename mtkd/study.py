"""Reading a study file, with the dotted overrides of the command line; and changing a section of it."""

import math
import re
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from mtkd.config import Distill, LossName, Modality, Section, Study, TeacherName
from mtkd.errors import MtkdError, one_line
from mtkd.files import refuse_deep, slug

ANOTHER_STUDENT = ("settings", "modalities", "teachers", "crossfit")
"""Keys of ``distill`` that no search may change."""
_TEACHERS_ONLY = {"teachers", "temperature", "weighting", "relations", "centre", "dkd_beta", *get_args(LossName)}
_KEY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_MOST_REFERENCES = 100
_LONGEST_NAME = 100
_REFERENCE = re.compile(r"\w+(\.\w+)*")
MIN_SAMPLES = 16  # a window encoder strides by eight
ONE_FOR_ALL = ("accelerate", "deepspeed", "optim.grad_clip")
"""Keys of ``temporal`` that no teacher beside it may change: one start of the engine trains all of them."""
RESERVED = {
    "majority",
    "class share",
    "temporal teacher",
    "spatial teacher",
    "possible, with EEG",
    "possible, no EEG",
}


def read_study(path: str | Path, overrides: list[str] | None = None) -> Study:
    """Read a study file and apply ``key.sub=value`` overrides (values in YAML).

    Raises:
        MtkdError: the file is missing or not YAML, a key is unknown or missing, or a value has the wrong type.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        refuse_deep(text)
        content = OmegaConf.create(text)
        if not isinstance(content, DictConfig):
            raise ValueError("its keys and values are missing")
        for override in overrides or []:
            key, value = _override(override, path)
            OmegaConf.update(content, key, value, merge=False)
        _refuse_chains(OmegaConf.to_container(content, resolve=False))
        raw = OmegaConf.to_container(content, resolve=True)
    except FileNotFoundError:
        raise MtkdError(f"{path}: no such study file") from None
    except IsADirectoryError:
        raise MtkdError(f"{path}: is a folder, not a study file") from None
    except MtkdError:
        raise
    except Exception as error:  # whatever foreign text makes the parsers raise, a RecursionError too
        raise MtkdError(f"{path}: not a readable YAML file: {one_line(error)}") from None
    texts = dict(override.split("=", 1) for override in overrides or [])
    study: Study = _validate(Study, raw, str(path), texts)
    _check_sections(study, str(path))
    _check_changes(study, str(path))
    return study


def _refuse_chains(written: Any) -> None:
    """Let ``${key.sub}`` stand for what is written there, and not for another such reference.

    A few lines of references to references would fill any memory.

    Raises:
        ValueError: one stands for another or is none to a key, or there are too many.
    """
    text = str(written)
    keys = [key.strip() for key in re.findall(r"\$\{([^{}]*)\}", text)]
    if len(keys) > _MOST_REFERENCES or len(text) > 2**20:
        raise ValueError(f"larger than any study, or more than {_MOST_REFERENCES} references to keys")
    if len(keys) < text.count("${") or not all(map(_REFERENCE.fullmatch, keys)):
        raise ValueError("a reference is ${key.sub} and nothing else")
    for key in keys:
        found = written
        for part in key.split("."):
            if isinstance(found, list):
                found = dict(enumerate(found)).get(int(part)) if part.isdecimal() else None
            else:
                found = {str(k): v for k, v in found.items()}.get(part) if isinstance(found, dict) else None
        if "${" in str(found):
            raise ValueError(f"${{{key}}} stands for another such reference")


def _override(text: str, path: Path) -> tuple[str, Any]:
    """Key and value. What is given replaces what was there, an empty dictionary too."""
    if "=" not in text:
        raise MtkdError(f"override {text!r}: expected key.sub=value")
    key, _, value = text.partition("=")
    try:
        refuse_deep(value)
        given = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]), resolve=False)
    except Exception as error:  # as above
        raise MtkdError(
            f"{path}: the value of {key[:40]} is no YAML (quotes make it text): {one_line(error)}"
        ) from None
    return key, given["value"]


def _check_sections(study: Study, name: str) -> None:
    """Refuse sections that are right each by itself but do not go together."""
    if study.classes is not None and len(study.classes) != study.n_classes:
        raise MtkdError(f"{name}: classes names {len(study.classes)}, but the labels make {study.n_classes}")
    if "eeg" not in study.signals.modalities:
        raise MtkdError(f"{name}: signals.modalities has no eeg, which the teachers need")
    _check_modalities(study, study.temporal.modalities, study.temporal.patch_s, f"{name}: temporal")
    _check_modalities(study, study.distill.modalities, study.windows.window_s, f"{name}: distill")
    nyquist = study.signals.modalities["eeg"].sfreq / 2
    if study.spatial.features != "learned":
        _check_bands(study.spatial.bands, study.windows.window_s, nyquist, f"{name}: spatial.bands")
    elif (filter_s := study.spatial.filter_s) > study.windows.window_s:
        raise MtkdError(f"{name}: spatial.filter_s = {filter_s:g} s is longer than windows.window_s")
    if (entropy := study.signals.entropy) is not None:
        _check_bands(entropy.bands, entropy.window_s, nyquist, f"{name}: signals.entropy.bands")
    patch_s = study.temporal.patch_s
    _check_bands(study.temporal.covariance_bands, patch_s, nyquist, f"{name}: temporal.covariance_bands")
    for key, length in (("window_s", study.windows.window_s), ("hop_s", study.windows.hop_s)):
        if round(length / patch_s) < 1 or abs(length / patch_s - round(length / patch_s)) > 1e-9:
            raise MtkdError(
                f"{name}: windows.{key} is {length} s, which temporal.patch_s = {patch_s} s does not divide"
            )
    if study.cache.n_components is not None and study.splits.crossfit > 1:
        told = "the teachers of each part would have components of their own, and a student hears them all"
        raise MtkdError(f"{name}: cache.n_components does not go with splits.crossfit > 1: {told}")
    students, evaluate = study.evaluate.students, study.evaluate
    named = {"evaluate.baseline": evaluate.baseline, "predict.student": study.predict.student}
    for key, student in named.items():
        if student not in students:
            raise MtkdError(f"{name}: {key} names {student!r}, which evaluate.students does not")


def _check_bands(bands: Sequence[tuple[float, float]], window_s: float, nyquist: float, name: str) -> None:
    for low, high in bands:
        if not 0 <= low < high <= nyquist:
            raise MtkdError(f"{name}: nothing lies from {low:g} to {high:g} Hz below {nyquist:g} Hz")
        if math.ceil(low * window_s - 1e-9) / window_s >= high:  # the frequencies of a window's spectrum
            raise MtkdError(f"{name}: {low:g} to {high:g} Hz is narrower than {window_s:g} s can tell")


def _check_modalities(study: Study, modalities: Sequence[Modality], cut_s: float, name: str) -> None:
    for modality in modalities:
        if modality not in study.signals.modalities:
            raise MtkdError(f"{name}.modalities names {modality}, which signals.modalities does not")
        if cut_s * study.signals.modalities[modality].sfreq < MIN_SAMPLES:
            raise MtkdError(f"{name}: {cut_s:g} s of {modality} are under {MIN_SAMPLES} samples")


def variants(study: Study, teacher: TeacherName) -> dict[str, Study]:
    """The study itself by the name "", and for each teacher that ``evaluate.teachers`` puts beside one a copy with it.

    Raises:
        MtkdError: a variant's changes are none of the teacher's section.
    """
    found = {"": study}
    for name, sections in study.evaluate.teachers.items():
        if teacher in sections:
            section = changed(getattr(study, teacher), sections[teacher], f"evaluate.teachers.{name}.{teacher}")
            found[name] = study.model_copy(update={teacher: section})
    return found


def _check_variants(study: Study, taken: dict[str, str], name: str) -> None:
    for variant, sections in study.evaluate.teachers.items():
        if len(sections) != 1:
            raise MtkdError(f"{name}: evaluate.teachers: {variant!r} changes {len(sections)} teachers, not one")
        (teacher,) = sections
        _take_name(f"{teacher} teacher, {variant}", taken, f"{name}: evaluate.teachers")
        own = variants(study, teacher)[variant]
        for key in ONE_FOR_ALL:
            if attrgetter(key)(own.temporal) != attrgetter(key)(study.temporal):
                raise MtkdError(f"{name}: evaluate.teachers.{variant}: temporal.{key} is one for all teachers")
        _check_sections(own, f"{name}: evaluate.teachers.{variant}")


def _take_name(row: str, taken: dict[str, str], key: str) -> None:
    """Refuse a name of the table that cannot be shown, or whose files would be another's."""
    if len(row) > _LONGEST_NAME or not row.isprintable():
        raise MtkdError(
            f"{key}: {row[:40]!r} is longer than {_LONGEST_NAME} characters, or some of them cannot be seen"
        )
    if slug(row) in {"", *taken}:
        other = f", as {taken[slug(row)]!r} has it" if slug(row) else ""
        raise MtkdError(f"{key}: {row!r} cannot name files of its own{other}")
    taken[slug(row)] = row


def _check_changes(study: Study, name: str) -> None:
    """Refuse now what a row of the table or the sweep would stumble over hours later."""
    taken, swept = {slug(row): row for row in RESERVED}, {}
    for student, changes in study.evaluate.students.items():
        _take_name(student, taken, f"{name}: evaluate.students")
        settings = changed(study.distill, changes, f"{name}: evaluate.students.{student}")
        window_s = study.windows.window_s
        _check_modalities(study, settings.modalities, window_s, f"{name}: evaluate.students.{student}")
        if student == study.evaluate.baseline and settings.teachers:
            raise MtkdError(f"{name}: evaluate.baseline names {student!r}, which has teachers itself")
        if settings.settings == "sweep":
            swept[student] = settings
    _check_variants(study, taken, name)
    for key, found in study.sweep.search.items():
        if key.split(".")[0] in ANOTHER_STUDENT:
            raise MtkdError(f"{name}: sweep.search: {key} makes another student, not other settings of one")
        tried: list[Any] = found.choice or [found.low, found.high]
        for value in tried:
            changed(study.distill, {key: value}, f"{name}: sweep.search")
    for student, settings in swept.items():
        if not searched(dict(study.sweep.search), settings):
            others = "" if settings.teachers else " of its own, such as optim.lr or width, as it has no teachers"
            raise MtkdError(
                f"{name}: sweep.search names nothing for evaluate.students.{student}, which is to be swept{others}"
            )


def searched(keys: dict[str, Any], base: Distill) -> dict[str, Any]:
    """The keys that mean something to a student: without teachers there is no temperature and no weight of theirs."""
    return {key: value for key, value in keys.items() if base.teachers or key.split(".")[0] not in _TEACHERS_ONLY}


def changed(section: Section, changes: dict[str, Any], name: str) -> Any:
    """A copy of ``section`` with dotted ``changes``, validated again; ``name`` is told in errors."""
    base = OmegaConf.create(section.model_dump())
    try:
        for key, value in _dotted(changes).items():
            if not _KEY.fullmatch(key):  # OmegaConf would take brackets, too, and go round who looks at names
                raise MtkdError(f"{name}: {key!r} is no key")
            OmegaConf.update(base, key, value, merge=False)
    except (OmegaConfBaseException, LookupError, TypeError, ValueError) as error:
        raise MtkdError(f"{name}: {key}: {one_line(error)}") from None
    return _validate(type(section), OmegaConf.to_container(base), name)


def _dotted(changes: dict[str, Any]) -> dict[str, Any]:
    """Nested changes as dotted keys, so that what they do not name stays; ``teachers`` is replaced as a whole."""
    flat: dict[str, Any] = {}
    for name, value in changes.items():
        key = str(name)
        if isinstance(value, dict) and key != "teachers":
            flat |= {f"{key}.{inner}": found for inner, found in _dotted(value).items()}
        else:
            flat[key] = value
    return flat


def _key(loc: tuple[int | str, ...]) -> str:
    """The dotted key that a place in a section has."""
    parts = [str(part) for part in loc] or [""]
    if parts[0] == "data" and len(parts) > 1:  # the reader by which its section was told, which is no key
        del parts[1]
    return ".".join(parts)


def _validate(schema: type[Section], raw: Any, name: str, texts: dict[str, str] | None = None) -> Any:
    """``texts`` are values of the command line by key, as they were typed: "01" is text where text is wanted."""
    if not isinstance(raw, dict):
        raise MtkdError(f"{name}: expected keys and values, found {type(raw).__name__}")
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = _key(first["loc"])
        if first["type"] == "string_type" and key in (texts or {}):
            whole = OmegaConf.create(raw)
            OmegaConf.update(whole, key, texts.pop(key), merge=False)  # type: ignore[union-attr]
            return _validate(schema, OmegaConf.to_container(whole), name, texts)
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        missing = [_key(other["loc"]) for other in error.errors()[1:] if other["type"] == "missing"]
        if first["type"] == "missing" and len(missing) == error.error_count() - 1 > 0:
            more = f", and so are {', '.join(missing)}"
        if first["type"] == "extra_forbidden":
            raise MtkdError(f"{name}: unknown key {key}{more}") from None
        message = first["msg"].removeprefix("Value error, ")
        found = "" if isinstance(first["input"], dict) else f", found {first['input']!r}"
        if first["type"] == "string_type" and isinstance(first["input"], int | float):
            found += " (a number is text in two pairs of quotes)"
        raise MtkdError(f"{name}: {key + ': ' if key else ''}{message}{found}{more}") from None
