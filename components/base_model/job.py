"""Fetch, convert or initialise the base model; the output is one whole safetensors folder."""

import shutil
from pathlib import Path

from components.base_model import bundled
from components.base_model.config import BaseModelConfig, RandomWeights
from components.shared.artifacts.outputs import atomic_folder
from components.shared.artifacts.storage import download, is_remote
from components.shared.errors import DataError, ModelError

HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "*.txt")


def run(config: BaseModelConfig, output: Path) -> None:
    """Bring the model of `config` to the folder `output`.

    Raises:
        ModelError: the source is not there, has no safetensors, or has no chat template.
    """
    print(f"base model: {config.source}", flush=True)
    with atomic_folder(output) as folder:
        if config.random_weights:
            _random_model(_source_folder(config, folder / ".source"), config.random_weights, folder)
            shutil.rmtree(folder / ".source", ignore_errors=True)
        else:
            _bring(_source_folder(config, folder), folder)
            from components.shared.language_model.load import check_folder, load_tokenizer

            check_folder(folder)
            load_tokenizer(folder)


def _source_folder(config: BaseModelConfig, scratch: Path) -> Path:
    """Return a local folder that holds the source; what must be downloaded goes to `scratch`."""
    source = config.source
    if source.startswith("bundled:"):
        return bundled.folder(source.removeprefix("bundled:"))
    if is_remote(source):
        try:
            download(source, scratch)
        except DataError as error:
            raise ModelError(f"base_model.source: {error}") from error
        return scratch
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ModelError(f"base_model.source: {source}: no such folder")
    return _hub_folder(source, config.revision)


def _hub_folder(repo: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"base_model.source: {repo} is neither a folder here nor to be had from the hub ({error}); "
            "check the name, HF_TOKEN and the network, or use bundled:smollm2-135m"
        ) from error


def _bring(source: Path, target: Path) -> None:
    """Copy every file over. Not as links: whoever edits the output would edit the cache that all share."""
    if source == target:
        return
    for path in sorted(p for p in source.iterdir() if p.is_file()):
        shutil.copyfile(path, target / path.name)  # follows the symbolic links of a hub cache


def _random_model(source: Path, sizes: RandomWeights, folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from components.shared.language_model.load import load_tokenizer

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
