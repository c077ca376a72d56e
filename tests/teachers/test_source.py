"""Where a backbone comes from, and what is told where there is none."""

import shutil
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import errors

from mtkd.errors import MtkdError
from mtkd.teachers.temporal.source import find


def refused(backbone: str) -> str:
    with pytest.raises(MtkdError) as raised:
        find(backbone)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "name", ["package:no_such_package_9", "package:no_such_package_9.sub", "package:", "package:os"]
)
def test_a_package_that_is_none(name: str) -> None:
    assert refused(name).startswith(f"temporal.backbone = {name}")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    said = refused(str(tmp_path))
    assert said.startswith(f"temporal.backbone = {tmp_path}")


def test_a_folder_with_two_ggufs(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert "(it has 2)" in refused(str(tmp_path))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = refused("nobody-7f3a/no-such-model")
    told = "neither file nor folder nor in the hub's cache, and the hub is out of reach"
    assert said == f"temporal.backbone = nobody-7f3a/no-such-model: {told}"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (errors.GatedRepoError, "on the hub, but gated: accept its terms there, and set HF_TOKEN"),
        (errors.RepositoryNotFoundError, "neither file nor folder, nor on the hub; a private one needs HF_TOKEN"),
        (errors.RevisionNotFoundError, "the hub has no such revision of it"),
        (errors.HfHubHTTPError, "neither file nor folder, and not to be had from the hub (HfHubHTTPError: no)"),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, kind: type[Exception], told: str) -> None:
    """The hub's answers are its library's own; here there is none to give them."""

    def refuse(name: str, **how: object) -> None:
        raise kind("no", response=httpx2.Response(404, request=httpx2.Request("GET", "http://localhost")))

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    assert refused("a/model") == f"temporal.backbone = a/model: {told}"


def test_a_folder_that_is_not_there() -> None:
    said = refused("/no/such/folder")
    assert said == "temporal.backbone = /no/such/folder: no such file or folder, and no id that the hub could have"


def test_a_revision_of_the_hub(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.append((name, how["revision"])) or tiny_llama
    )
    assert find("someone/model@v1.0").folder == find("someone/model").folder == tiny_llama
    assert asked == [("someone/model", "v1.0"), ("someone/model", None)]


def test_a_tokenizer_counts_where_it_is_used(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "llama")
    before = [find(str(folder)).digest(tmp_path, tokenizer) for tokenizer in (False, True)]
    (folder / "tokenizer_config.json").write_text("{}")
    after = [find(str(folder)).digest(tmp_path, tokenizer) for tokenizer in (False, True)]
    assert after[0] == before[0]
    assert after[1] != before[1]
