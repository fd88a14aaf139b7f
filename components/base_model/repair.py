"""What a model's folder lacks for training: repaired where that changes no answer, else refused by name."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from components.shared import causes
from components.shared.artifacts.outputs import write_json
from components.shared.errors import ModelError
from components.shared.language_model.load import (
    answer_prefix,
    encode_completion,
    encode_prompt,
    load_tokenizer,
)
from components.shared.logs import logger
from components.shared.prompting import answer

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_QUANTISED = ("quantization_config", "compression_config", "quantization")
"""Keys of config.json of a quantised model; the last is MLX's."""
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MARKS = "recllm-system-words", "recllm-user-words"
_FOLD = """\
{%- if messages | length > 1 and messages[0]['role'] == 'system' -%}
{%- set folded = {'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']} -%}
{%- set messages = [folded] + messages[2:] -%}
{%- endif -%}
"""

log = logger("base model")


def refuse_quantised(folder: Path) -> None:
    """Raise ModelError if the weights in `folder` are quantised."""
    config = read_json(folder / "config.json")
    found = next((config[key] for key in _QUANTISED if config.get(key)), None)
    method = found.get("quant_method", "unknown method") if isinstance(found, dict) else "unknown method"
    if not config and any(folder.glob("*.gguf")):
        method = "GGUF"
    elif found is None and not (folder / "quantize_config.json").is_file():
        if not (dtypes := _weight_types(folder) - _FLOATS):
            return
        method = min(dtypes)
    raise ModelError(
        f"{folder}: the weights are quantised ({method}), and such weights cannot be trained; take the "
        "repository that they were made from, which has them in bfloat16 or float32"
    )


def _weight_types(folder: Path) -> set[str]:
    """Return the types of all matrices of weights in `folder`, as safetensors names them."""
    found = set()
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "pt") as weights:
                names = [name for name in weights.keys() if name.endswith("weight")]  # noqa: SIM118
                found |= {weights.get_slice(name).get_dtype() for name in names}
        except SafetensorError as error:
            raise ModelError(f"{file}: no whole safetensors file ({error})") from error
    return found


def repair(folder: Path) -> None:
    """Repair tokenizer, chat template and generation config of the model in `folder`.

    Raises: ModelError naming what cannot be repaired.
    """
    _show_tags(folder)
    _drop_unknown_tokens(folder)
    _choose_end_and_padding(folder)
    _fold_system_message(folder)
    _replace_generation_config(folder)
    tokenizer = load_tokenizer(folder)
    _check_answers(folder, tokenizer)


def _show_tags(folder: Path) -> None:
    """Make the answer's tags ordinary tokens, which decoding keeps; their ids stay."""
    changed = False
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        content = read_json(folder / name)
        before = json.dumps(content)
        added = content.get("added_tokens", [])
        for token in [*added, *content.get("added_tokens_decoder", {}).values()]:
            if token.get("content") in TAGS:
                token["special"] = False
        for key in ("additional_special_tokens", "extra_special_tokens"):
            if isinstance(listed := content.get(key), list):
                content[key] = [one for one in listed if _text(one) not in TAGS]
        if json.dumps(content) != before:
            write_json(folder / name, content)
            changed = True
    if changed:
        log.info(
            "think and answer tags were special tokens, which decoding drops: they are ordinary ones now"
        )


def _drop_unknown_tokens(folder: Path) -> None:
    """Drop end and other special tokens that the configurations name and that have no embedding."""
    rows = range(_embedding_rows(folder))
    for name, ending in (("config.json", "eos_token_id"), ("generation_config.json", "token_id")):
        settings = read_json(folder / name)
        known: dict[str, Any] = {}
        for key, value in settings.items():
            if key.endswith(ending) and value is not None:
                tokens = [token for token in (value if isinstance(value, list) else [value]) if token in rows]
                known[key] = tokens if isinstance(value, list) and tokens else next(iter(tokens), None)
        if settings | known != settings:
            write_json(folder / name, settings | known)
            log.warning("%s names tokens that have no embedding; these are left out", name)


def _choose_end_and_padding(folder: Path) -> None:
    """Give the tokenizer an end and a padding token that the model has weights for."""
    tokenizer = _tokenizer(folder)
    rows, config = _embedding_rows(folder), read_json(folder / "config.json")
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = _configured_end(folder, tokenizer, config)
    if tokenizer.eos_token_id >= rows:
        raise ModelError(
            f"{folder}: the end token {tokenizer.eos_token!r} is {tokenizer.eos_token_id}, but the model has "
            f"{rows} embeddings; tokenizer and weights do not belong together"
        )
    pad = tokenizer.pad_token_id
    if pad is not None and pad >= rows:
        log.warning(
            "the padding token %s is %d, but the model has %d embeddings: %s pads instead",
            tokenizer.pad_token, pad, rows, tokenizer.eos_token,
        )  # fmt: skip
        tokenizer.pad_token = tokenizer.eos_token
    if (tokenizer.eos_token_id, tokenizer.pad_token_id) != _ids(_tokenizer(folder)):
        tokenizer.save_pretrained(folder)
    if (config.get("pad_token_id") or 0) not in range(rows):  # torch refuses to build such an embedding
        write_json(folder / "config.json", config | {"pad_token_id": tokenizer.pad_token_id})


def _configured_end(folder: Path, tokenizer: Any, config: dict[str, Any]) -> str:
    """Return the end token that the model's configurations name. Raises ModelError: none does."""
    named = read_json(folder / "generation_config.json").get("eos_token_id") or config.get("eos_token_id")
    for number in named if isinstance(named, list) else [named]:
        if isinstance(number, int) and (token := tokenizer.convert_ids_to_tokens(number)):
            log.info("the tokenizer has no end token: %s, which the model's configuration names", token)
            return str(token)
    raise ModelError(
        f"{folder}: neither the tokenizer nor the configurations name an end token (eos_token), so no answer "
        "would end; use an instruction-tuned model, or add it to tokenizer_config.json"
    )


def _fold_system_message(folder: Path) -> None:
    """Fold a system message into the user's where the template refuses or drops it."""
    tokenizer = load_tokenizer(folder)
    if _shows_system(tokenizer):
        return
    template = tokenizer.chat_template
    if not isinstance(template, str):
        template = template.get("default", "")
    tokenizer.chat_template = _FOLD + template
    if not _shows_system(tokenizer):
        raise ModelError(
            f"{folder}: the chat template takes no system message, nor its words in the user's message; "
            "prompts have both"
        )
    settings = read_json(folder / "tokenizer_config.json")
    if settings.pop("chat_template", None):
        write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    log.info("the chat template takes no system message: its words go before the user's")


def _shows_system(tokenizer: Any) -> bool:
    """Return whether a prompt holds both the system message and the user's."""
    messages = [
        {"role": role, "content": mark} for role, mark in zip(("system", "user"), _MARKS, strict=True)
    ]
    try:
        shown = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except Exception:  # a template is a program, and refuses by raising
        return False
    return all(mark in shown for mark in _MARKS)


def _replace_generation_config(folder: Path) -> None:
    """Keep of a generation config that transformers refuses to save only the special tokens."""
    settings = read_json(folder / "generation_config.json")
    if not settings:
        return
    try:
        GenerationConfig.from_pretrained(folder).validate(strict=True)
    except (ValueError, TypeError) as error:
        kept = {key: value for key, value in settings.items() if key.endswith("token_id")}
        GenerationConfig(**kept).save_pretrained(folder)
        log.warning("the generation config cannot be saved again, and only its tokens are kept: %s", error)


def _check_answers(folder: Path, tokenizer: Any) -> None:
    """Raise ModelError unless a decoded answer reads as it was written."""
    ids = encode_completion(tokenizer, "<think>tea</think><answer>2, 1</answer>")
    text = answer_prefix(tokenizer) + tokenizer.decode(ids, skip_special_tokens=True)
    if answer.parse(text).numbers != (2, 1):
        raise ModelError(
            f"{folder}: the tokenizer turns an answer into {text!r}: its tags are special tokens that cannot "
            "be kept, or it does not know their characters; use another model"
        )
    rows, asked = _embedding_rows(folder), encode_prompt(tokenizer, [{"role": "user", "content": "x"}])
    if unknown := [token for token in (*asked, *ids) if token >= rows]:
        raise ModelError(
            f"{folder}: the model has {rows} embeddings, none for {tokenizer.decode(unknown[:1])!r} of the "
            "chat template or of answers; tokenizer and weights do not belong together"
        )


def _embedding_rows(folder: Path) -> int:
    """Return how many tokens the model in `folder` has embeddings for."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return int(config.get_text_config().vocab_size)
    except Exception as error:  # of every architecture its own
        raise ModelError(
            f"{folder}: config.json describes no language model known here ({causes.of_exception(error)})"
        ) from error


def _tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a corrupt file can raise anything, deep inside the libraries
        raise ModelError(f"{folder}: the tokenizer cannot be read ({causes.of_exception(error)})") from error


def _ids(tokenizer: Any) -> tuple[int | None, int | None]:
    return tokenizer.eos_token_id, tokenizer.pad_token_id


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON mapping in `path`, {} without a file. Raises ModelError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path}: no JSON ({error}); is the folder complete?") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: no JSON object; is this the right file?")
    return found
