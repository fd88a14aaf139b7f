"""Sentence embeddings (Reimers & Gurevych 2019, section 3) of items' texts, which new items have too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.config import BUNDLED
from components.retrieve.model_config import EncoderConfig
from components.shared.errors import ModelError
from components.shared.language_model.wheels import wheel_folder
from components.shared.logs import logger, progress

log = logger("retrieve")

CHUNK = 8192  # texts sorted by length together


@torch.no_grad()
def encode(texts: Sequence[str], config: EncoderConfig, device: torch.device) -> npt.NDArray[np.float32]:
    """Return unit vectors [texts, dim]: the mean of the last layer's states per text."""
    tokenizer, model = _load(config)
    model.to(device)
    vectors = np.empty((len(texts), model.config.hidden_size), np.float32)
    for begin in range(0, len(texts), CHUNK):
        chunk = [str(text) for text in texts[begin : begin + CHUNK]]
        order = np.argsort([len(text) for text in chunk], kind="stable")
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            batch = tokenizer(
                [chunk[row] for row in rows],
                truncation=True,
                max_length=config.max_tokens,
                padding=True,
                return_tensors="pt",
            ).to(device)
            states = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1)
            vectors[begin + rows] = torch.nn.functional.normalize(mean, dim=-1).float().cpu().numpy()
        progress(log, begin + len(chunk), len(texts), "texts embedded")
    return vectors


def _load(config: EncoderConfig) -> tuple:
    from transformers import AutoModel, AutoTokenizer

    source, options = encoder_source(config.source), {"revision": config.revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModel.from_pretrained(source, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"retrieve.encoder.source: {config.source} cannot be loaded ({error}); name a folder, a hub id, "
            f"or bundled:{next(iter(BUNDLED))}"
        ) from error
    most = getattr(model.config, "max_position_embeddings", config.max_tokens)
    if config.max_tokens > most:
        raise ModelError(
            f"retrieve.encoder.max_tokens is {config.max_tokens}, but {config.source} reads {most} at most"
        )
    return tokenizer, model.eval()


def encoder_source(source: str) -> str:
    """Return the encoder's folder, or `source` itself where it is a hub id."""
    if source.startswith("bundled:"):
        name = source.removeprefix("bundled:")
        return str(wheel_folder(BUNDLED, name, "retrieve.encoder.source") / "model")
    folder = Path(source).expanduser()
    return str(folder) if folder.is_dir() else source
