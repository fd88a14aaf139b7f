"""Whose reasoning is put before whose answer, and what is counted."""

import json
import re
import shutil

import pytest

from components.evaluate import asking
from components.evaluate.answers import Answers, answer_statistics
from components.evaluate.config import EvaluateConfig
from components.shared.language_model.generate import Completion
from components.shared.prompting import answer
from components.shared.prompting.table import read_prompts
from data_contracts.evaluation import DATA_SUMMARY


class FakeModel:
    """In place of the model: follows the first digit of the reasoning, or never changes its mind."""

    def __init__(self, follows: bool) -> None:
        self.follows, self.prefills = follows, []

    def __call__(self, prompts, *, prefills):
        self.prefills += prefills
        digits = [re.search("[0-9]", prefill)[0] for prefill in prefills]
        said = digits if self.follows else [prompt.messages[0]["content"] for prompt in prompts]
        texts = [f"{prefill}{number}</answer>" for prefill, number in zip(prefills, said, strict=True)]
        return [Completion(text, [], True) for text in texts]


class Row:
    def __init__(self, number: int) -> None:
        self.messages = [{"role": "user", "content": str(number)}]


def text(number: int) -> str:
    return f"<think>best is {number}</think><answer>{number}</answer>"


NOTHING = Answers(completions=[], rankings=[], seconds=0.0)


def ignored(model, texts, probes=20):
    rows = [Row(n) for n in range(1, len(texts) + 1)]
    config = EvaluateConfig(max_new_tokens=8, batch_size=4, reasoning_probes=probes)
    return asking.ignored_share(config, model, rows, texts)


@pytest.mark.parametrize(("follows", "share"), [(True, 0.0), (False, 1.0)])
def test_a_model_that_follows_its_reasoning_and_one_that_does_not(follows, share) -> None:
    model = FakeModel(follows)
    assert ignored(model, [text(n) for n in range(1, 6)]) == (share, 5)
    assert sorted(model.prefills) == [f"<think>best is {n}</think><answer>" for n in range(1, 6)]


def test_only_usable_answers_with_other_reasoning_are_tried() -> None:
    assert ignored(FakeModel(True), ["nonsense", text(2), "<think>"]) == (None, 0)
    assert ignored(FakeModel(True), [text(1), text(1)]) == (None, 0)
    assert ignored(FakeModel(True), [text(1), text(2), text(3)], probes=2)[1] == 2
    assert ignored(FakeModel(True), [text(1), text(2)], probes=0) == (None, 0)


@pytest.mark.parametrize(
    "file", [None, "data_summary.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"]
)
def test_only_models_that_are_equal_in_every_file_share_their_answers(file, tmp_path, monkeypatch) -> None:
    """What a champion was trained on lies beside it, and is no part of the model."""
    for name in ("sft", "grpo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        for part in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
            (tmp_path / name / part).write_text(name if part == file else "same")
    if file == DATA_SUMMARY:
        (tmp_path / "grpo" / file).write_text("{}")
    asked = []
    monkeypatch.setattr(asking, "check_folder", lambda folder: None)
    monkeypatch.setattr(asking, "_generate", lambda config, name, *_: asked.append(name) or NOTHING)
    config = EvaluateConfig(max_new_tokens=8, scored=False)
    models = {name: tmp_path / name for name in ("sft", "grpo")}
    assert set(asking.answer_all(config, models, [])) == {"sft", "grpo"}
    assert asked == (["sft"] if file in (None, DATA_SUMMARY) else ["sft", "grpo"])


def test_answers_that_copy_the_list_are_counted_apart_from_constant_ones(prompts_folder) -> None:
    """Of eight answers three copy the list, two are equal, one has no numbers."""
    rows = read_prompts(prompts_folder, "test")
    said = ["1, 2, 3"] * 3 + ["2, 1, 3"] * 2 + ["3, 2, 1", "3, 1, 2", "none"]
    completions = [Completion(f"<think>x</think><answer>{numbers}</answer>", [], True) for numbers in said]
    given = Answers(completions=completions, rankings=[], seconds=1.0)
    found = answer_statistics(given, rows)
    assert (found.copied_share, found.constant_share) == (3 / 8, 2 / 8)


@pytest.mark.parametrize(("constrained", "corrected"), [(True, 1.0), (False, 0.0)])
def test_answers_of_a_model_that_has_learnt_nothing(
    constrained, corrected, tiny_model_folder, prompts_folder
) -> None:
    """Constrained it ranks every candidate list, and still counts as a model without a valid answer."""
    rows = read_prompts(prompts_folder, "test")
    config = EvaluateConfig(max_new_tokens=48, constrained=constrained, scored=False, dtype="float32")
    given = asking.answer_all(config, {"base": tiny_model_folder}, rows)["base"]
    found = answer_statistics(given, rows)
    assert (found.valid_share, found.corrected_share, found.truncated_share) == (0.0, corrected, 1.0)
    parsed = [answer.parse(completion.text).is_valid(6, 3) for completion in given.completions]
    assert all(parsed) == any(parsed) == constrained


@pytest.mark.verl
@pytest.mark.slow
def test_vllm_ranks_like_transformers(model_for_vllm, vllm_on_cpu, prompts_folder) -> None:
    """Constrained answers have the model's own choice among few tokens: no tie has been seen."""
    rows = read_prompts(prompts_folder, "test")
    found = []
    for engine in ("vllm", "transformers"):
        config = EvaluateConfig(max_new_tokens=48, engine=engine, scored=False, dtype="float32")
        found.append(asking.answer_all(config, {"base": model_for_vllm}, rows)["base"])
    by_vllm, by_transformers = found
    assert by_vllm.completions == by_transformers.completions
    assert by_vllm.rankings == by_transformers.rankings
    assert by_vllm.reasoning_ignored == by_transformers.reasoning_ignored


def test_the_base_model_ranks_by_scores_where_the_trained_one_does(
    tiny_model_folder, prompts_folder, tmp_path
) -> None:
    """Its generated answers would say nothing beside them, and take most of the time."""
    trained = tmp_path / "trained"
    shutil.copytree(tiny_model_folder, trained)
    config = json.loads((trained / "config.json").read_text())
    config["ranker"] = {"answers": "title_likelihood", "scale": 0.5, "fuse": 2.0}
    (trained / "config.json").write_text(json.dumps(config))
    rows = read_prompts(prompts_folder, "test")[:3]
    found = asking.answer_all(EvaluateConfig(), {"base": tiny_model_folder, "grpo": trained}, rows)
    assert found["base"].scores == found["grpo"].scores
    assert found["base"].rankings == found["grpo_alone"].rankings
