"""verl itself, on a CPU: trains by our launcher, table and reward, is killed, goes on, is exported."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from components.base_model.config import BaseModelConfig, RandomWeights
from components.base_model.job import run as make_model
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, best_checkpoint
from components.grpo.verl import engine
from components.shared.language_model.load import load
from components.shared.prompting.table import read_prompts

pytestmark = [pytest.mark.verl, pytest.mark.slow, pytest.mark.timeout(2400)]


class Training:
    """A training in a process of its own, which a test can kill."""

    def __init__(self, config: GrpoConfig, model: Path, prompts: Path, checkpoint_dir: Path) -> None:
        checkpoint_dir.mkdir(exist_ok=True)
        (checkpoint_dir.parent / "arguments").write_bytes(
            pickle.dumps((config, model, prompts, checkpoint_dir))
        )
        command = [sys.executable, __file__, str(checkpoint_dir.parent / "arguments")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        self.lines: list[str] = []

    def until(self, start: str) -> None:
        """Read what it prints up to a line that begins with `start`."""
        assert self.process.stdout
        for line in self.process.stdout:
            print(line, end="", flush=True)
            self.lines.append(line)
            if line.startswith(start):
                return
        raise AssertionError(f"ended before it printed '{start}'")


def main(arguments: str) -> None:
    """Train. Every validation counts as better than the one before it, so that there is a best to export."""
    config, model, prompts, checkpoint_dir = pickle.loads(Path(arguments).read_bytes())
    logging.basicConfig(stream=sys.stdout, format="grpo: %(message)s")
    add_validation = Progress.add_validation

    def rising(progress, scores, answers):
        risen = [value + progress.step for value in scores["valid_ndcg@10"]]
        add_validation(progress, scores | {"valid_ndcg@10": risen}, answers)

    Progress.add_validation = rising
    rows, valid = read_prompts(prompts, "train"), read_prompts(prompts, "valid", config.eval_prompts)
    progress = engine.train(config, model, rows, valid, checkpoint_dir)
    print("done:", json.dumps([progress.step, progress.history, progress.validations]), flush=True)


@pytest.fixture(scope="module")
def sft_model(teach, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learnt the format, with attention heads of a size that vLLM has for a CPU."""
    base = tmp_path_factory.mktemp("base") / "model"
    make_model(BaseModelConfig(random_weights=RandomWeights(hidden_size=64, heads=2)), base)
    return teach(base)


def test_a_killed_training_goes_on_and_its_best_model_is_exported(
    config, sft_model, on_cpu, prompts_folder, tmp_path
) -> None:
    checkpoint_dir = tmp_path / "checkpoint_dir"
    training = Training(config, sft_model, prompts_folder, checkpoint_dir)
    training.until("grpo: 3/4")
    children = psutil.Process(training.process.pid).children(recursive=True)
    assert len(children) > 5, "verl, Ray and vLLM"
    training.process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=60)
    # Ray's own agents take longer to see that they are alone.
    assert not [process for process in alive if "Agent" not in process.name()], "verl ends with its launcher"
    saved = {path.name for path in (checkpoint_dir / "verl").glob("global_step_*")}
    assert saved == {"global_step_2"}

    resumed = Training(config, sft_model, prompts_folder, checkpoint_dir)
    resumed.until("grpo: verl resumes after step 2")
    resumed.until("grpo: 3/4")
    resumed.until("done:")
    step, history, validations = json.loads(resumed.lines[-1].removeprefix("done:"))
    assert step == 4
    assert list(validations) == ["0", "2", "4"]
    for name in ("reward", "lcs", "format", "kl", "entropy", "seconds", "groups_without_task_variance"):
        assert len(history[name]) == 4, name
    assert {path.name for path in (checkpoint_dir / "verl").glob("global_step_*")} == {"global_step_4"}

    exported = load(best_checkpoint(checkpoint_dir, 4), "float32", "cpu").model.state_dict()
    shards = torch.load(
        checkpoint_dir / "best-4.shards" / "model_world_size_1_rank_0.pt",
        weights_only=False,
        map_location="cpu",
    )
    start = load(sft_model, "float32", "cpu").model.state_dict()
    # verl's merger writes bfloat16.
    for name, shard in shards.items():
        weights = shard.to_local() if hasattr(shard, "to_local") else shard
        assert torch.equal(exported[name], weights.bfloat16().float())
    assert any(not torch.equal(exported[name], start[name].bfloat16().float()) for name in start), "it learnt"
    assert len(set(history["reward"])) > 1


if __name__ == "__main__":
    main(sys.argv[1])
