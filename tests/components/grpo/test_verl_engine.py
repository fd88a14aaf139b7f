"""What the verl engine makes of what a killed verl left, and its refusals; verl is not needed."""

import dataclasses
import importlib.util
import json
import zipfile
from pathlib import Path

import pytest

from components.grpo import verl_engine
from components.grpo.config import GrpoConfig
from components.grpo.rewards import score
from components.shared.errors import ConfigError, TrainingError
from components.shared.prompt_table import read_prompts

CONFIG = GrpoConfig(
    engine="verl", steps=6, prompts_per_step=1, group_size=2, eval_every=2, max_new_tokens=16, dtype="float32"
)
TEXTS = ("<think>a tea</think><answer>1, 2, 3</answer>", "nothing")


class Left:
    """What verl wrote up to some step: a line a step, two answers a step, a checkpoint each second step."""

    def __init__(self, place: Path, rows) -> None:
        self.place, self.rows = place, rows

    def steps(self, last: int) -> "Left":
        for step in range(last + 1):
            figures = {"timing_s/step": 1.0, "actor/kl_loss": step / 100} if step else {}
            if step % 2 == 0:
                figures |= {"val-core/recllm/reward/mean@1": 0.5}
                self.answers("validations", step, 2)
            self.write("log.jsonl", json.dumps({"step": step, "data": figures}) + "\n")
            if step:
                self.answers("rollouts", step, 2)
        return self

    def answers(self, folder: str, step: int, count: int) -> "Left":
        for n in range(count):
            line = {"output": TEXTS[n], "uid": f"u_{n}_0", "gts": {"row": n}}
            self.write(f"{folder}/{step}.jsonl", json.dumps(line) + "\n")
        return self

    def checkpoint(self, step: int, whole: bool = True) -> "Left":
        folder = self.place / "verl" / f"global_step_{step}"
        (folder / "actor").mkdir(parents=True)
        with zipfile.ZipFile(folder / "data.pt", "w") as file:
            file.writestr("data", "x" * 1000)
        if not whole:
            (folder / "data.pt").write_bytes((folder / "data.pt").read_bytes()[:500])
        return self

    def write(self, name: str, text: str) -> "Left":
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        return self


@pytest.fixture
def left(tmp_path: Path, prompts_folder: Path) -> Left:
    return Left(tmp_path, read_prompts(prompts_folder, "train"))


def recalled(left: Left):
    run = verl_engine._Run(CONFIG, left.rows, left.rows[:2], "", left.place)
    run.recall()
    return run.progress


def reached(left: Left) -> tuple[int, str | None]:
    """Return where a resumed training begins by our account, and by verl's tracker."""
    progress, tracker = recalled(left), left.place / "verl" / verl_engine.TRACKER
    assert {len(values) for values in progress.history.values()} <= {progress.step}
    assert all(step <= progress.step for step in progress.validations)
    return progress.step, tracker.read_text() if tracker.is_file() else None


def test_nothing_is_left(left: Left) -> None:
    assert reached(left) == (0, None)


def test_killed_between_checkpoints(left: Left) -> None:
    left.steps(3).checkpoint(2).write("verl/latest_checkpointed_iteration.txt", "2")
    assert reached(left) == (2, "2")
    again = recalled(left)
    pairs = zip(TEXTS, left.rows, strict=False)
    rewards = [score(text, row, CONFIG.reward, {})["reward"] for text, row in pairs]
    assert again.history["reward"] == [sum(rewards) / 2] * 2
    assert rewards[0] > rewards[1]
    assert again.history["kl"] == [0.01, 0.02]
    assert set(again.answers) == {0}
    assert again.answers[0][1] == "nothing"


def test_killed_while_the_tracker_was_written(left: Left) -> None:
    left.steps(4).checkpoint(2).checkpoint(4).write("verl/latest_checkpointed_iteration.txt", "")
    assert reached(left) == (4, "4")


def test_killed_before_a_saved_step_was_told(left: Left) -> None:
    """Saved, but killed in the validation that follows: the step is run again from the checkpoint before."""
    left.steps(3).checkpoint(2).checkpoint(4).write("verl/latest_checkpointed_iteration.txt", "4")
    assert reached(left) == (2, "2")
    assert not (left.place / "verl" / "global_step_4").exists()


def test_killed_while_a_checkpoint_was_written(left: Left) -> None:
    left.steps(3).checkpoint(2).checkpoint(4, whole=False)
    assert reached(left) == (2, "2")


def test_killed_while_answers_and_log_were_written(left: Left) -> None:
    left.steps(2).answers("rollouts", 3, 1).write(
        "log.jsonl", json.dumps({"step": 3, "data": {"timing_s/step": 1.0}}) + "\n"
    )
    left.checkpoint(2).write("log.jsonl", '{"step": 4, "da')
    assert reached(left) == (2, "2")


def test_what_was_known_before_the_last_attempt_stays(left: Left) -> None:
    left.steps(2).checkpoint(2)
    assert reached(left) == (2, "2")
    assert not (left.place / "log.jsonl").exists(), "verl begins it anew"
    assert reached(left) == (2, "2")


def test_figures_that_are_not_finite_stop_the_training(left: Left) -> None:
    run = verl_engine._Run(CONFIG, left.rows, left.rows[:2], "", left.answers("rollouts", 1, 2).place)
    with pytest.raises(TrainingError, match=r"kl not finite at step 1; lower grpo\.learning_rate"):
        run.take({"step": 1, "data": {"timing_s/step": 1.0, "actor/kl_loss": None}})


def test_refusals(left: Left, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(**replaced) -> None:
        config = dataclasses.replace(CONFIG, **replaced)
        verl_engine.train(config, tiny_model_folder, left.rows, left.rows[:2], left.place)

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "verl" else find(name))
    with pytest.raises(ConfigError, match="verl is not installed here"):
        train()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=r"prompts_per_step is 99, but only 16"):
        train(prompts_per_step=99)
    with pytest.raises(ConfigError, match=r"the longest prompt has \d+ tokens, .* context of \d+"):
        train(max_new_tokens=10**6)


def test_a_verl_that_fails_or_stops_early_is_told_with_its_last_words(
    left: Left, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """verl's entry point is replaced by a script here."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)

    def train_with(script: str) -> None:
        stand_in = tmp_path / "modules" / "verl" / "trainer"
        stand_in.mkdir(parents=True, exist_ok=True)
        (stand_in / "main_ppo.py").write_text(script)
        monkeypatch.setattr(verl_engine, "_project", lambda: str(tmp_path / "modules"))
        verl_engine.train(CONFIG, tiny_model_folder, left.rows, left.rows[:2], left.place)

    with pytest.raises(TrainingError, match=r"exit status 3(.|\n)*no such node"):
        train_with("print('no such node'); raise SystemExit(3)")
    with pytest.raises(TrainingError, match=r"memory ran out: lower grpo\.verl\.max_tokens_per_gpu"):
        train_with("raise RuntimeError('CUDA out of memory')")
    with pytest.raises(TrainingError, match="ended after step 0 of 6"):
        train_with("print('nothing to do')")
