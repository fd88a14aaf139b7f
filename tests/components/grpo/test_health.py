"""The failure signatures: their arithmetic on made-up curves, and real trainings that provoke them."""

import dataclasses
import logging
from pathlib import Path

import pytest

from components.grpo import health, local, rollout
from components.grpo.config import GrpoConfig, HealthBounds
from components.grpo.job import _alarms, run
from components.grpo.progress import Progress
from data_contracts.evaluation import TrainingAlarms

BOUNDS = HealthBounds(window=2)
FINE = {
    "reward": [0.5, 0.5, 0.6, 0.6],
    "format": [0.9, 0.9, 0.9, 0.9],
    "kl": [0.0, 0.01, 0.02, 0.02],
    "entropy": [0.4, 0.4, 0.3, 0.3],
    "groups_without_task_variance": [0.5, 0.0, 0.5, 0.5],
}
BETTER = {0: {"valid_ndcg@10": 0.4}, 4: {"valid_ndcg@10": 0.45}}
WORSE = {0: {"valid_ndcg@10": 0.4}, 4: {"valid_ndcg@10": 0.35}}


def seen(history=None, validations=BETTER) -> dict[str, tuple[float, float]]:
    found = health.alarms(BOUNDS, {**FINE, **(history or {})}, validations)
    assert all(alarm.remedy for alarm in found)
    return {alarm.name: (pytest.approx(alarm.value), pytest.approx(alarm.bound)) for alarm in found}


def test_a_good_training_has_no_alarm() -> None:
    assert seen() == {}
    assert health.alarms(BOUNDS, {}, {0: {"valid_ndcg@10": 0.4}}) == []
    assert health.collapse(BOUNDS, FINE) is None


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ({"format": [0.9, 0.9, 0.5, 0.3]}, {"low_format": (0.4, 0.5)}),
        ({"kl": [0.0, 0.0, 0.5, 0.7]}, {"high_kl": (0.6, 0.5)}),
        ({"entropy": [0.4, 0.4, 0.06, 0.02]}, {"low_entropy": (0.04, 0.08)}),
        ({"entropy": [0.4, 0.4, 2.5, 2.5]}, {"high_entropy": (2.5, 2.0)}),
        ({"groups_without_task_variance": [0.0, 0.0, 1.0, 1.0]}, {"no_task_variance": (1.0, 0.9)}),
    ],
)
def test_each_curve_has_its_signature(history, expected) -> None:
    assert seen(history) == expected


def test_a_model_below_sft_and_a_reward_that_rises_meanwhile() -> None:
    flat = {"reward": [0.5, 0.5, 0.5, 0.5]}
    assert seen(flat, WORSE) == {"validation_drop": (-0.05, -0.02)}
    assert seen(None, WORSE) == {"validation_drop": (-0.05, -0.02), "reward_hacking": (0.1, 0.02)}


def test_a_collapse_is_half_of_the_format_lost_or_too_much_kl() -> None:
    lost = health.collapse(BOUNDS, {**FINE, "format": [0.9, 0.9, 0.5, 0.3]})
    assert (lost.name, lost.value, lost.bound) == ("format_lost", pytest.approx(0.4), pytest.approx(0.45))
    far = health.collapse(BOUNDS, {**FINE, "kl": [0.0, 0.0, 0.5, 0.7]})
    assert (far.name, far.value) == ("high_kl", pytest.approx(0.6))
    assert health.collapse(BOUNDS, {name: values[:1] for name, values in FINE.items()}) is None


CONFIG = GrpoConfig(
    steps=30,
    prompts_per_step=2,
    group_size=16,
    learning_rate=2.0e-3,
    beta=0.0,
    max_new_tokens=10,
    eval_every=30,
    eval_prompts=2,
    dtype="float32",
    health=HealthBounds(window=3),
)


@pytest.fixture
def pays_for_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that a model earns by writing nothing but digits, which is no answer at all."""

    def score(text, row, weights, business):
        share = sum(letter in "0123456789," for letter in text) / max(1, len(text))
        return {"lcs": share, "format": 1 - share, "reward": share}

    monkeypatch.setattr(rollout, "score", score)


def outputs(folder: Path) -> dict[str, Path]:
    names = {"model": "model", "curves": "curves.html", "alarms": "alarms.json"}
    return {output: folder / name for output, name in names.items()}


def test_what_went_wrong_after_the_step_that_is_kept_is_not_held_against_it() -> None:
    progress = Progress()
    progress.add_validation({"valid_ndcg@10": [0.4]}, [])
    for format_share in (0.4, 0.4, 0.2, 0.2):
        progress.add_step({"reward": 0.5, "format": format_share, "kl": 0.7 if progress.step > 1 else 0.0})
        progress.add_validation({"valid_ndcg@10": [0.5 if progress.step == 2 else 0.1]}, [])
    assert progress.best_step == 2
    raised = {alarm.name: alarm.model for alarm in _alarms(GrpoConfig(health=BOUNDS), progress)}
    assert raised == {
        "low_format": "grpo",
        "high_kl": "grpo (not kept)",
        "validation_drop": "grpo (not kept)",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("format_lost", {}, id="a reward that can be hacked"),
        pytest.param("high_kl", {"learning_rate": 3.0e-2, "beta": 0.02}, id="a huge learning rate"),
    ],
)
def test_a_collapse_stops_the_training_and_the_sft_model_goes_on(
    prompts_folder, sft_folder, tmp_path, caplog, pays_for_digits, name, changes
) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    caplog.set_level(logging.INFO, logger="recllm")
    report = run(config, prompts=prompts_folder, sft_model=sft_folder, **outputs(tmp_path))
    assert report.steps < config.steps
    assert report.best_step == 0
    assert report.last_reward > report.first_reward
    assert f": {name} (" in caplog.text.partition("stopped after step")[2]
    local.load(tmp_path / "model")


def test_a_frozen_model_whose_answers_are_all_alike_raises_the_alarm(
    prompts_folder, tiny_model_folder, tmp_path
) -> None:
    config = dataclasses.replace(CONFIG, steps=2, temperature=1.0e-4, learning_rate=1.0e-12)
    report = run(config, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))
    assert TrainingAlarms.read(tmp_path / "alarms.json").alarms == report.alarms
    assert {alarm.model for alarm in report.alarms} == {"grpo (not kept)"}, "the SFT model goes on"
    assert "no_task_variance" in {alarm.name for alarm in report.alarms}
    assert ">no_task_variance (grpo (not kept)): 1, bound 0.9;" in (tmp_path / "curves.html").read_text()
