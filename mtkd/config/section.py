"""What all sections of a study file share: strict reading, and the words for modalities."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Strict, field_validator

Modality = Literal["eeg", "eog", "emg", "ecg", "eda", "resp", "ppg", "temp"]
Kind = Literal["eeg", "eog", "emg", "ecg", "eda", "resp", "ppg", "temp", "ignore"]
# YAML has lists only, which strict reading would not take for a pair
Band = Annotated[tuple[Annotated[float, Strict()], Annotated[float, Strict()]], Strict(False)]
OpenBand = Annotated[tuple[Annotated[float, Strict()] | None, Annotated[float, Strict()] | None], Strict(False)]


class Section(BaseModel):
    """Base of all sections: strict types, no unknown keys, no changes after reading."""

    # defaults are validated too: a fingerprint must not depend on whether 1 or 1.0 was written
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        if isinstance(value, str) and (not value.strip() or "\0" in value):  # neither a name nor a path
            raise ValueError("is empty or holds a NUL character")
        if isinstance(value, list) and all(isinstance(item, str) for item in value) and len({*value, ""}) <= len(value):
            raise ValueError("names something twice, or nothing")
        return value
