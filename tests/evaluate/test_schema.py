"""The schema of ``results.json``: what is written fits it, and what would not be a result does not."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mtkd.evaluate.results import SCHEMA, VERSION

Place = tuple[str | int, ...]


@pytest.fixture(scope="session")
def schema() -> Draft202012Validator:
    content = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def test_it_is_a_schema_of_this_version(schema: Draft202012Validator) -> None:
    assert schema.schema["properties"]["schema"]["const"] == VERSION


def test_results_fit_it(
    schema: Draft202012Validator, quadrant_results: dict[str, Any], binary_results: dict[str, Any]
) -> None:
    for results in (quadrant_results, binary_results):
        schema.validate(results)


def test_what_the_stage_writes_fits_it_and_lies_beside_it(schema: Draft202012Validator, pipeline: Any) -> None:
    (folder,) = pipeline.units("evaluate")
    schema.validate(json.loads((Path(folder) / "results.json").read_text(encoding="utf-8")))
    assert (Path(folder) / SCHEMA.name).read_bytes() == SCHEMA.read_bytes()


def test_every_field_of_a_result_is_described(schema: Draft202012Validator, quadrant_results: dict[str, Any]) -> None:
    """Where keys are the schema's own, one more is refused: so none can be written that it does not tell of."""
    for place in ((), ("study",), ("protocol",), ("models", 0), ("levels",), ("folds", 0)):
        assert not schema.is_valid(_changed(quadrant_results, (*place, "new"), 1)), place
    for place in ((), ("chance",), ("models", "distilled"), ("models", "distilled", "mean"), ("comparisons", 0)):
        where = ("levels", "trial", "valence", *place, "new")
        assert not schema.is_valid(_changed(quadrant_results, where, 1)), place


@given(data=st.data())
def test_what_is_no_result_is_refused(
    schema: Draft202012Validator, quadrant_results: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever stands in a block: something of another type in its place."""
    block = ("levels", "window", "joint")
    place = (*block, *data.draw(st.sampled_from(_places(quadrant_results["levels"]["window"]["joint"]))))
    assert not schema.is_valid(_changed(quadrant_results, place, data.draw(st.sampled_from([[{}], {"?": "?"}, True]))))


def _places(value: Any) -> list[Place]:
    """Of every value in it, however deep."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inside for place in [(key,), *((key, *deeper) for deeper in _places(item))]]


def _changed(results: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(results)
    inside: Any = changed
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return changed
