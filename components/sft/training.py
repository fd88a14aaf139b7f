"""Fine-tuning from the base model to the folder of the trained one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from components.sft import distributed, ranking
from components.sft.adaptation import FOLDER, Histories
from components.sft.config import SftConfig
from components.sft.examples import encode
from components.sft.trainer import AnswerTrainer
from components.shared.artifacts.outputs import atomic_folder
from components.shared.language_model import lora
from components.shared.language_model.checks import check_finite, check_length, explain_oom
from components.shared.language_model.load import LanguageModel, context_length, load
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.scoring import check_context
from components.shared.logs import logger
from components.shared.prompting.table import read_prompts
from components.shared.tracking.tracker import Tracker

log = logger("sft")

_REMEDY = "lower sft.micro_batch_size or {}, or set sft.gradient_checkpointing"


@dataclass(frozen=True)
class Training:
    """What a training did: examples, the loss of each step, seconds; a scoring model's weights.

    `adaptation` is the loss of each step of the adaptation.
    """

    examples: int
    losses: list[float]
    seconds: float
    fusion: ranking.Fusion | None
    adaptation: list[float]


def train(
    tracker: Tracker,
    *,
    config: SftConfig,
    prompts: Path,
    base_model: Path,
    model: Path,
    checkpoint_dir: Path,
    checkpoint: str | None,
    histories: Histories | None = None,
    adapted: str | None = None,
) -> Training:
    """Train the base model from `checkpoint`, if any, and write `model`, one whole safetensors folder.

    `adapted` is the newest checkpoint of the adaptation to `histories`.

    Raises: DataError, ModelError, ConfigError; TrainingError if a loss is not finite or memory is used up.
    """
    set_seed(config.seed)
    lm = load(base_model, "float32")
    use_cache = getattr(lm.model.config, "use_cache", None)
    network = lora.set_trainable(lm.model, config.train_layers, config.lora)
    adaptation: list[float] = []
    if histories and config.adaptation.tokens:
        adaptation = _adapt(network, lm.tokenizer, config, histories, checkpoint_dir, adapted, tracker)
    ranker, examples = _examples(lm, config, prompts)
    trainer = AnswerTrainer(config, network, lm.tokenizer, examples, ranker, tracker, checkpoint_dir)
    started = time.monotonic()
    with explain_oom(_REMEDY.format("sft.max_length")):
        if config.epochs:
            trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - started
    if trainer.sharded:
        network = _whole(network, config, base_model)
    fusion = None
    if distributed.rank() == 0:
        # No loss is computed after the last update, which may have broken the weights.
        check_finite("after the last step", "sft", config.learning_rate, network=network)
        plain = LanguageModel(lora.merge_adapters(network), lm.tokenizer)
        if use_cache is not None:  # the Trainer turns it off, and whoever serves the model reads it
            plain.model.config.use_cache = use_cache
        fusion = _fused(plain, config, prompts)
        with atomic_folder(model) as folder:
            plain.model.save_pretrained(folder)
            plain.tokenizer.save_pretrained(folder)
    return Training(len(examples), trainer.losses, seconds, fusion, adaptation)


def _adapt(
    network: Any,
    tokenizer: Any,
    config: SftConfig,
    histories: Histories,
    checkpoint_dir: Path,
    checkpoint: str | None,
    tracker: Tracker,
) -> list[float]:
    """Train `network` on the titles of `histories` from `checkpoint`; return the loss of each step."""
    rows = histories.rows(tokenizer, config.adaptation, config.seed)
    log.info("adaptation: %d rows of %d tokens of titles", len(rows), config.adaptation.row_tokens)
    settings = replace(config, epochs=1, learning_rate=config.adaptation.learning_rate)
    trainer = AnswerTrainer(
        settings, network, tokenizer, rows, Ranker(), tracker, checkpoint_dir, FOLDER, "sft.adaptation"
    )
    with explain_oom(_REMEDY.format("sft.adaptation.row_tokens")):
        trainer.train(resume_from_checkpoint=checkpoint)
    # What the Trainer wraps it in must not be wrapped again.
    trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    return trainer.losses


def _examples(lm: LanguageModel, config: SftConfig, prompts: Path) -> tuple[Ranker, Sequence[dict[str, Any]]]:
    """Return how the model ranks while it is trained, and the encoded train prompts."""
    rows = read_prompts(prompts, "train", config.max_examples, config.seed)
    if config.answers == "generate":
        ranker = Ranker()
        examples: Sequence[dict[str, Any]] = encode(rows, lm.tokenizer, config.max_length)
        longest = max(len(example["input_ids"]) for example in examples)
        check_length(longest, context_length(lm.model.config), "lower prompts.max_prompt_tokens")
    else:
        examples = ranking.encode(rows, lm.tokenizer, config)
        check_context(lm, [example["question"] for example in examples])
        before = ranking.fit(lm, rows, config, least=ranking.LEAST)
        log.info("before training, %s", before)
        ranker = before.ranker
    lengths = [len(example["input_ids"]) for example in examples]
    log.info("%d examples, %.0f tokens on average", len(examples), sum(lengths) / len(lengths))
    return ranker, examples


def _whole(network: Any, config: SftConfig, base_model: Path) -> Any:
    """Return the sharded `network` as one, in the process of rank 0; elsewhere `network`."""
    state = network.state_dict()
    if distributed.rank() > 0:
        return network
    whole = lora.set_trainable(load(base_model, "float32", "cpu").model, config.train_layers, config.lora)
    whole.load_state_dict(state)
    return whole


def _fused(lm: LanguageModel, config: SftConfig, prompts: Path) -> ranking.Fusion | None:
    """Return what validation prompts say of a scoring model; write its weights into it."""
    if config.answers == "generate":
        return None
    rows = read_prompts(prompts, "valid", config.fuse_prompts, config.seed, listed=True)
    fusion = ranking.fit(lm, rows, config)
    log.info("after training, %s", fusion)
    if not fusion.prompts:
        log.warning(
            "no validation prompt has its label among the candidates: the model keeps the "
            "retriever's order; raise prompts.valid_prompts or retrieve.num_candidates"
        )
    fusion.ranker.write(lm.model)
    return fusion
