"""Sampling against transformers' own generate, and loading that refuses what is unsafe or absent."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared.errors import ModelError, TrainingError
from components.shared.language_model import generate
from components.shared.language_model.generate import complete, sample
from components.shared.language_model.load import encode_completion, encode_prompt, load

CHATS = [[{"role": "user", "content": "word " * n}] for n in (1, 7, 3, 12)]


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path):
    return load(tiny_model_folder, "float32")


def test_greedy_answers_equal_those_of_transformers(lm) -> None:
    ours = complete(lm, CHATS, max_new_tokens=12, batch_size=3)
    for chat, (answer,) in zip(CHATS, ours, strict=True):
        ids = torch.tensor([encode_prompt(lm.tokenizer, chat)])
        theirs = lm.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )[0, ids.shape[1] :].tolist()
        assert answer.token_ids == theirs


def test_samples_follow_the_models_distribution(lm) -> None:
    prompt = encode_prompt(lm.tokenizer, CHATS[0])
    (drawn,) = sample(
        lm,
        [prompt],
        num_samples=4000,
        max_new_tokens=1,
        temperature=0.2,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.inference_mode():
        expected = (lm.model(torch.tensor([prompt])).logits[0, -1] / 0.2).softmax(-1)
    top = int(expected.argmax())
    share = sum(ids == [top] for ids in drawn) / len(drawn)
    deviation = float((expected[top] * (1 - expected[top]) / 4000).sqrt())
    assert abs(share - float(expected[top])) < 4 * deviation


def test_a_seed_repeats_and_samples_differ(lm) -> None:
    first = complete(lm, CHATS, max_new_tokens=8, num_samples=3, temperature=1.0, seed=1)
    again = complete(lm, CHATS, max_new_tokens=8, num_samples=3, temperature=1.0, seed=1)
    assert first == again
    assert len({tuple(one.token_ids) for one in first[0]}) == 3


def test_finished_rows_stop_at_their_end_token(lm, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = frozenset(range(0, 49152, 2))  # half of the vocabulary ends an answer
    monkeypatch.setattr(type(lm), "stop_ids", property(lambda self: stops))
    answers = complete(lm, CHATS, max_new_tokens=20, num_samples=5, temperature=1.0)
    for one in (one for group in answers for one in group):
        assert not stops & set(one.token_ids[:-1])
        assert one.finished == (one.token_ids[-1] in stops)


def test_prompts_read_in_several_passes_give_the_same_answers(lm, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = complete(lm, CHATS, max_new_tokens=8)
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 60)
    assert complete(lm, CHATS, max_new_tokens=8) == whole


def test_an_answer_goes_on_from_the_words_that_it_is_begun_with(lm) -> None:
    prefills = ["<think>tea</think><answer>", "", "7", "so"]
    ours = complete(lm, CHATS, max_new_tokens=6, prefills=prefills)
    for chat, prefill, (answer,) in zip(CHATS, prefills, ours, strict=True):
        begun = lm.tokenizer(prefill, add_special_tokens=False)["input_ids"] if prefill else []
        ids = torch.tensor([encode_prompt(lm.tokenizer, chat) + begun])
        theirs = lm.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
        )[0, ids.shape[1] :].tolist()
        assert answer.token_ids == theirs
        assert answer.text == prefill + lm.tokenizer.decode(theirs, skip_special_tokens=True)


def test_completions_end_with_the_end_token(lm) -> None:
    ids = encode_completion(lm.tokenizer, "<think>a</think><answer>1</answer>")
    assert ids[-1] in lm.stop_ids
    assert lm.tokenizer.decode(ids, skip_special_tokens=True) == "<think>a</think><answer>1</answer>"


def test_loading_refuses_what_is_absent_or_unsafe(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="can run code"):
        load(tmp_path)


def test_loading_refuses_a_model_with_holes_and_a_template_that_fails(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({name: weights[name] for name in sorted(weights)[:3]}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"model's weights are missing, 'model\."):
        load(folder)
    save_file(weights, file, {"format": "pt"})
    load(folder)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(ModelError, match="the chat template fails"):
        load(folder)


def test_outputs_that_are_no_numbers_are_told(tiny_model_folder: Path) -> None:
    lm = load(tiny_model_folder, "float32")
    with pytest.raises(TrainingError, match="the temperature 1e-40 overflow"):
        complete(lm, CHATS, max_new_tokens=2, temperature=1.0e-40)
    torch.nn.init.constant_(next(lm.model.parameters()), torch.nan)
    for temperature in (0.0, 1.0):
        with pytest.raises(TrainingError, match="the model's outputs are not numbers"):
            complete(lm, CHATS, max_new_tokens=2, temperature=temperature)
