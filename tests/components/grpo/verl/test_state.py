"""What the verl engine makes of what a killed verl left behind; verl itself is not needed."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from components.grpo import rewards
from components.grpo.config import GrpoConfig, VerlConfig
from components.grpo.rewards import score
from components.grpo.verl import reward
from components.grpo.verl.attempt import Attempt
from components.grpo.verl.reward import ANSWER_ID, compute_score
from components.grpo.verl.state import TrainingState
from components.shared.artifacts.checkpoint_store import opened
from components.shared.errors import TrainingError
from components.shared.prompting.table import PromptRow, read_prompts
from tests.components.shared.artifacts.s3_server import serving

CONFIG = GrpoConfig(
    engine="verl", steps=6, prompts_per_step=1, group_size=2, eval_every=2, verl=VerlConfig(gpus_per_node=1)
)
SAMPLED = ("<think>a tea</think><answer>1, 2, 3</answer>", "nothing")


class Left:
    """What an attempt wrote: a line and two answers a step, a validation each second step, the best at 2."""

    def __init__(self, checkpoint_dir: Path, rows: list[PromptRow]) -> None:
        self.checkpoint_dir, self.rows, self.attempt = (
            checkpoint_dir,
            rows,
            Attempt(checkpoint_dir / "attempt-1"),
        )

    @property
    def state(self) -> TrainingState:
        """What the next launcher knows before it resumes."""
        return TrainingState(CONFIG, self.rows[:2], "", self.checkpoint_dir)

    def steps(self, last: int) -> "Left":
        for step in range(last + 1):
            self.answers(step).log(step)
        return self

    def log(self, step: int, kl: float | None = 0.01) -> "Left":
        figures = {"timing_s/step": 1.0, "actor/kl_loss": kl} if step else {}
        if step % 2 == 0:
            figures |= {"val-core/recllm/reward/mean@1": 0.5}
        return self.write(self.attempt.log, json.dumps({"step": step, "data": figures}) + "\n")

    def answers(self, step: int, count: int = 2) -> "Left":
        if step:
            self._dump(self.attempt.rollouts, step, SAMPLED[:count])
        if step % 2 == 0:
            label = [row.labels[0] for row in self.rows[:count]]
            named = label if step == 2 else [2 if number == 1 else 1 for number in label]
            texts = [f"<think>a</think><answer>{number}</answer>" for number in named]
            self._dump(self.attempt.validations, step, texts)
        return self

    def _dump(self, folder: Path, step: int, texts: Sequence[str]) -> None:
        (folder / f"{step}.jsonl").unlink(missing_ok=True)
        for n, text in enumerate(texts):
            line = {"output": text, "uid": f"{folder.name}{step}_{n}_0", "gts": n}
            self.attempt.terms.mkdir(parents=True, exist_ok=True)
            compute_score(
                data_source="recllm",
                solution_str=text,
                ground_truth=n,
                extra_info=vars(self.rows[n]) | {ANSWER_ID: f"{folder.name}{step}_{n}"},
                terms_folder=str(self.attempt.terms),
            )
            self.write(folder / f"{step}.jsonl", json.dumps(line) + "\n")

    def checkpoint(self, step: int, whole: bool = True) -> "Left":
        folder = self.checkpoint_dir / "verl" / f"global_step_{step}"
        self.write(folder / "actor" / "model_world_size_1_rank_0.pt", f"weights of {step}")
        self.write(folder / "actor" / "optim_world_size_1_rank_0.pt", "moments")
        with zipfile.ZipFile(folder / "data.pt", "w") as file:
            file.writestr("data", "x" * 1000)
        if not whole:
            (folder / "data.pt").write_bytes((folder / "data.pt").read_bytes()[:500])
        return self

    def write(self, path: Path, text: str) -> "Left":
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        return self


@pytest.fixture
def left(tmp_path: Path, prompts_folder: Path) -> Left:
    return Left(tmp_path, read_prompts(prompts_folder, "train"))


def recalled(left: Left, step: int) -> TrainingState:
    """Resume, see that training does so after `step` and that nothing later or needless is left."""
    state = left.state
    state.resume()
    progress = state.progress
    assert progress.step == step
    assert {len(values) for values in progress.history.values()} <= {step}
    assert not list(left.checkpoint_dir.glob("attempt-*"))
    assert [folder.name for folder in (left.checkpoint_dir / "verl").iterdir()] == [
        f"global_step_{step}"
    ] * bool(step)
    if step:
        assert list(progress.validations) == list(range(0, step + 1, 2))
        assert progress.best_step == 2
        assert {path.name: path.read_text() for path in state.best_shards(2).iterdir()} == {
            "model_world_size_1_rank_0.pt": "weights of 2"
        }
    return state


def test_nothing_is_left(left: Left) -> None:
    recalled(left, 0)


def test_killed_between_checkpoints(left: Left) -> None:
    progress = recalled(left.checkpoint(2).steps(3), 2).progress
    first, second = (
        score(text, row, CONFIG.reward, {})["reward"] for text, row in zip(SAMPLED, left.rows, strict=False)
    )
    assert first > second
    assert progress.history["reward"] == [(first + second) / 2] * 2
    assert progress.history["kl"] == [0.01, 0.01]
    labels = [row.labels[0] for row in left.rows[:2]]
    assert progress.answers == {
        0: [f"<think>a</think><answer>{2 if number == 1 else 1}</answer>" for number in labels],
        2: [f"<think>a</think><answer>{number}</answer>" for number in labels],
    }


def test_each_answer_is_scored_once_by_the_reward_that_verl_calls(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    left.checkpoint(2).steps(2)
    monkeypatch.setattr(rewards, "score", _never)
    monkeypatch.setattr(reward, "score", _never)
    assert recalled(left, 2).progress.history["format"] == [0.5, 0.5]


def test_terms_are_kept_until_their_answers_are_counted(left: Left) -> None:
    state = left.checkpoint(2).steps(3).state
    for line in left.attempt.log.read_bytes().splitlines():
        state.read(json.loads(line), left.attempt)
    assert state.progress.step == 3 and list(state.progress.validations) == [0, 2]
    assert not state._terms
    left.log(4)
    assert not recalled(left, 2)._terms


def test_answers_whose_terms_are_lost_end_the_attempt_before_their_step(left: Left) -> None:
    left.checkpoint(2).steps(3)
    (file,) = left.attempt.terms.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 10, "two answers in each of three steps and in two validations"
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    recalled(left, 2)


def _never(*args: object) -> None:
    raise AssertionError("scored again")


def test_killed_before_a_saved_step_was_told(left: Left) -> None:
    """Saved, but killed in the validation that follows: the step is run again from the checkpoint before."""
    recalled(left.checkpoint(2).steps(3).checkpoint(4), 2)


def test_killed_while_a_checkpoint_was_written(left: Left) -> None:
    recalled(left.checkpoint(2).steps(3).checkpoint(4, whole=False), 2)


def test_killed_while_answers_and_log_were_written(left: Left) -> None:
    left.checkpoint(2).steps(2).answers(3, count=1).log(3)
    recalled(left.write(left.attempt.log, '{"step": 4, "da'), 2)


@pytest.mark.parametrize("lost", ["progress.json", "attempt-1"])
def test_killed_while_the_launcher_took_a_validation_up(left: Left, lost: str) -> None:
    """Before it noted the progress, or after that and before it removed what was needless."""
    state = left.checkpoint(2).steps(2).checkpoint(4).state
    for line in left.attempt.log.read_bytes().splitlines():
        state.read(json.loads(line), left.attempt)
    if lost == "progress.json":
        (left.checkpoint_dir / lost).unlink()
        left.steps(2)
    recalled(left, 2)
    recalled(left, 2)


def test_another_machine_goes_on_from_object_storage(
    left: Left, prompts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each validation is stored: the checkpoint, the best one's weights and the figures, not the attempt."""
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        uri = server.upload(prompts_folder, "bucket", "prompts").replace("prompts", "grpo-1")
        for step in (2, 4):
            with pytest.raises(InterruptedError), opened(uri) as folder:
                machine = Left(folder, left.rows)
                state = machine.state
                state.resume()
                machine.checkpoint(step).steps(step + 1)
                for line in machine.attempt.log.read_bytes().splitlines():
                    state.read(json.loads(line), machine.attempt)
                machine.checkpoint(step + 2, whole=False)
                raise InterruptedError
            with pytest.raises(InterruptedError), opened(uri) as folder:
                assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
                    "best-2.shards",
                    "progress.json",
                    "verl",
                ]
                recalled(Left(folder, left.rows), step)
                raise InterruptedError


def test_a_better_checkpoint_replaces_the_one_before(left: Left) -> None:
    state = recalled(left.checkpoint(2).steps(4).checkpoint(4), 4)
    assert list(left.checkpoint_dir.glob("best-*")) == [state.best_shards(2)]


def test_answers_of_an_earlier_attempt_are_not_taken_for_the_present_ones(left: Left) -> None:
    state = recalled(left.checkpoint(2).steps(3), 2)
    attempt = Attempt.start(left.checkpoint_dir)
    with pytest.raises(LookupError, match="not all of 2 answers"):
        state.read({"step": 3, "data": {"timing_s/step": 1.0}}, attempt)
    assert state.progress.step == 2


def test_figures_that_are_not_finite_stop_the_attempt_and_not_the_next(left: Left) -> None:
    left.checkpoint(2).steps(2).answers(3).log(3, kl=None)
    state = left.state
    with pytest.raises(TrainingError, match=r"kl not finite at step 3; lower grpo\.learning_rate"):
        for line in left.attempt.log.read_bytes().splitlines():
            state.read(json.loads(line), left.attempt)
    recalled(left, 2)


def test_a_verl_that_is_elsewhere_is_noticed(left: Left) -> None:
    with pytest.raises(TrainingError, match="logged step 5 after step 0"):
        left.state.read({"step": 5, "data": {"timing_s/step": 1.0}}, left.attempt)
