"""First layers that models have in common: what counts as equal, and the scores that come of it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared.language_model.load import load
from components.shared.language_model.scoring import question, score_all, score_each
from components.shared.language_model.trunk import Trunk, equal_layers

ROWS = [
    SimpleNamespace(
        messages=[{"role": "user", "content": f"rank {n}"}],
        titles=[f"tea {n}", "jazz", "a very long title"],
        history=["jazz"] * n,
    )
    for n in range(3)
]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def folder(request, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models") / request.param
    shutil.copytree(tiny_model_folder, folder)
    known = json.loads((folder / "config.json").read_text())
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    config = AutoConfig.for_model(
        request.param, num_hidden_layers=4, tie_word_embeddings=True, **{size: known[size] for size in sizes}
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def changed(folder: Path, copy: Path, name: str) -> Path:
    """Return `folder` copied with another weight or key of its configuration."""
    shutil.copytree(folder, copy)
    if name.endswith(".weight"):
        weights = load_file(copy / "model.safetensors")
        weights[name] = weights[name] + 0.1
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
    elif name == "tokenizer":
        (copy / "tokenizer_config.json").write_text("{}")
    else:
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {name: 3.0}))
    return copy


@pytest.mark.parametrize(
    ("name", "equal"),
    [
        ("ranker", 4),
        ("model.norm.weight", 4),
        ("model.layers.3.mlp.up_proj.weight", 3),
        ("model.layers.2.input_layernorm.weight", 2),
        pytest.param("model.layers.1.mlp.up_proj.weight", 0, id="fewer than half"),
        ("model.embed_tokens.weight", 0),
        ("rms_norm_eps", 0),
        ("tokenizer", 0),
    ],
)
def test_layers_are_equal_up_to_the_first_change(name: str, equal: int, folder: Path, tmp_path: Path) -> None:
    assert equal_layers(folder, changed(folder, tmp_path / "changed", name)) == equal


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        pytest.param("model.", "", "model.layers.0.mlp.up_proj.weight", id="saved without the head"),
        pytest.param("model.embed_tokens.", "lm_head.", "model.embed_tokens.weight", id="a tied head alone"),
    ],
)
def test_weights_under_other_names_are_never_taken_for_equal(
    old: str, new: str, name: str, folder: Path, tmp_path: Path
) -> None:
    """transformers loads these too."""
    folders = changed(folder, tmp_path / "one", "ranker"), changed(folder, tmp_path / "other", name)
    for copy in folders:
        weights = {key.replace(old, new, 1): w for key, w in load_file(copy / "model.safetensors").items()}
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert load(folders[1], "float32") and equal_layers(*folders) == 0


def test_models_of_other_kinds_are_not_split(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Gemma, for one, scales what it reads before the first layer."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, copy)
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "gemma"}
    (copy / "config.json").write_text(json.dumps(config))
    assert equal_layers(copy, copy) == 0


@pytest.mark.parametrize("answers", ["label_logits", "title_likelihood"])
def test_scores_of_models_with_a_common_trunk_are_those_of_each_alone(
    answers, folder: Path, tmp_path: Path
) -> None:
    names = ["model.layers.3.mlp.up_proj.weight", "model.norm.weight", "model.layers.2.mlp.up_proj.weight"]
    folders = [folder, *(changed(folder, tmp_path / name, name) for name in names)]
    depth = min(equal_layers(folder, other) for other in folders[1:])
    models = [load(folder, "float32") for folder in folders]
    asked = [question(models[0].tokenizer, answers, row) for row in ROWS]
    alone = [score_all(lm, asked) for lm in models]
    assert depth == 2 and len({str(scores) for scores in alone}) == 4
    trunk = Trunk([lm.model for lm in models], depth)
    passes: list[int] = []
    original = trunk._lower.forward
    trunk._lower.forward = lambda *args, **inputs: passes.append(1) or original(*args, **inputs)
    together, seconds = score_each(trunk.uppers, asked)
    assert together == alone
    assert len(passes) == 1 and seconds > 0
