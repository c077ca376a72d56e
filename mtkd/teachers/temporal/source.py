"""Where a backbone comes from: a folder, a GGUF file, a Python package that ships one, or the hub."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from mtkd.digests import digests_of
from mtkd.errors import MtkdError, one_line
from mtkd.files import fingerprint

_INDEX = "model.safetensors.index.json"
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("added_tokens.json", "special_tokens_map.json", "spiece.model", "sentencepiece.bpe.model"),
)


@dataclass(frozen=True)
class Source:
    """Where a backbone lies: a folder and, for GGUF weights, the file in it."""

    folder: Path
    gguf: str | None

    @property
    def has_tokenizer(self) -> bool:
        """Whether there are files of one; a GGUF file has one within."""
        return self.gguf is not None or any((self.folder / name).is_file() for name in _TOKENIZER)

    def digest(self, workspace: Path, tokenizer: bool) -> str:
        """Fingerprint of configuration and weights, and of the tokenizer where that is used."""
        names = {"config.json", _INDEX, *(_TOKENIZER if tokenizer else ())}
        found = sorted(self.folder.iterdir())
        wanted = [path for path in found if path.suffix == ".safetensors" or path.name in names]
        if self.gguf is not None:
            wanted = [self.folder / self.gguf]
        digests = digests_of(wanted, workspace)
        return fingerprint({path.name: digests[path] for path in wanted})


def find(backbone: str, weights: bool = True) -> Source:
    """Resolve ``temporal.backbone``: a GGUF file, a folder, ``package:NAME`` (a Python package that ships one) or a
    hub id, with ``@`` and a revision where it shall stay. Without ``weights`` its configuration alone is fetched.

    Raises:
        MtkdError: nothing with weights is there.
    """
    if backbone.startswith("package:"):
        try:
            spec = importlib.util.find_spec(backbone.removeprefix("package:"))  # without importing it
        except (ImportError, ValueError):  # of a package that this one would be in, or no name at all
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise MtkdError(f"temporal.backbone = {backbone}: that package is not installed")
        return _in_folder(Path(spec.submodule_search_locations[0]), backbone)
    path = Path(backbone)
    if path.is_file() and path.suffix == ".gguf":
        return Source(path.parent, path.name)
    if path.is_dir():
        only_configured = not weights and (path / "config.json").is_file() and not any(path.glob("*.gguf"))
        return Source(path, None) if only_configured else _in_folder(path, backbone)
    folder = _from_hub(backbone, weights)
    return _in_folder(folder, backbone) if weights else Source(folder, None)


def _in_folder(folder: Path, backbone: str) -> Source:
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return Source(folder, None)
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) != 1:
        raise MtkdError(
            f"temporal.backbone = {backbone}: {folder} holds neither config.json with safetensors nor one GGUF "
            f"file (it has {len(ggufs)})"
        )
    return Source(folder, ggufs[0].name)


def _from_hub(backbone: str, weights: bool) -> Path:
    import huggingface_hub

    name, _, revision = backbone.partition("@")
    wanted = ["*.json", *_TOKENIZER, *(["*.safetensors"] if weights else [])]
    twice = ["consolidated*"]  # the same weights by other names
    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=wanted, ignore_patterns=twice
        )
        return Path(found)
    except Exception as error:  # network, unknown id, gated: each has its own class
        raise MtkdError(f"temporal.backbone = {backbone}: {_not_from_hub(error)}") from None


def _not_from_hub(error: Exception) -> str:
    from huggingface_hub import errors

    kinds: list[tuple[type[Exception], str]] = [  # the narrower before the wider
        (errors.HFValidationError, "no such file or folder, and no id that the hub could have"),
        (errors.GatedRepoError, "on the hub, but gated: accept its terms there, and set HF_TOKEN"),
        (errors.RepositoryNotFoundError, "neither file nor folder, nor on the hub; a private one needs HF_TOKEN"),
        (errors.RevisionNotFoundError, "the hub has no such revision of it"),
        (errors.LocalEntryNotFoundError, "neither file nor folder nor in the hub's cache, and the hub is out of reach"),
    ]
    for kind, told in kinds:
        if isinstance(error, kind):
            return told
    return f"neither file nor folder, and not to be had from the hub ({type(error).__name__}: {one_line(error)})"
