"""Reading a study file, with the dotted overrides of the command line; and changing a section of it."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from mtkd.config import Section, Study
from mtkd.errors import MtkdError


def read_study(path: str | Path, overrides: list[str] | None = None) -> Study:
    """Read a study file and apply ``key.sub=value`` overrides (values in YAML).

    Raises:
        MtkdError: the file is missing or not YAML, a key is unknown or missing, or a value has the wrong type.
    """
    path = Path(path)
    try:
        content = OmegaConf.load(path)
        for override in overrides or []:
            if "=" not in override:
                raise MtkdError(f"override {override!r}: expected key.sub=value")
            key, _, value = override.partition("=")  # what is given replaces what was there, an empty dictionary too
            given = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]), resolve=False)
            OmegaConf.update(content, key, given["value"], merge=False)
        raw = OmegaConf.to_container(content, resolve=True)
    except FileNotFoundError:
        raise MtkdError(f"{path}: no such study file") from None
    except IsADirectoryError:
        raise MtkdError(f"{path}: is a folder, not a study file") from None
    except (YAMLError, OmegaConfBaseException, OSError, TypeError, ValueError) as error:
        raise MtkdError(f"{path}: not a readable YAML file: {_one_line(error)}") from None
    study: Study = _validate(Study, raw, str(path))
    _check_changes(study, str(path))
    return study


def _check_changes(study: Study, name: str) -> None:
    """Refuse now what a student of the table or the sweep would stumble over hours later."""
    for student, changes in study.evaluate.students.items():
        settings = changed(study.distill, changes, f"{name}: evaluate.students.{student}")
        for modality in settings.modalities:
            if modality not in study.signals.modalities:
                raise MtkdError(f"{name}: evaluate.students.{student}: signals.modalities has no {modality}")
    for key, found in study.sweep.search.items():
        tried: list[Any] = found.choice or [found.low, found.high]
        for value in tried:
            changed(study.distill, {key: value}, f"{name}: sweep.search")


def changed(section: Section, changes: dict[str, Any], name: str) -> Any:
    """A copy of ``section`` with dotted ``changes``, validated again; ``name`` is told in errors."""
    base = OmegaConf.create(section.model_dump())
    try:
        for key, value in changes.items():
            OmegaConf.update(base, key, value, merge=False)
    except OmegaConfBaseException as error:
        raise MtkdError(f"{name}: {key}: {_one_line(error)}") from None
    return _validate(type(section), OmegaConf.to_container(base), name)


def _validate(schema: type[Section], raw: Any, name: str) -> Any:
    if not isinstance(raw, dict):
        raise MtkdError(f"{name}: expected keys and values, found {type(raw).__name__}")
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            raise MtkdError(f"{name}: unknown key {key}{more}") from None
        message = first["msg"].removeprefix("Value error, ")
        found = "" if isinstance(first["input"], dict) else f", found {first['input']!r}"
        raise MtkdError(f"{name}: {key + ': ' if key else ''}{message}{found}{more}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
