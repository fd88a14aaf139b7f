"""Several processes on the CPU train like one; a failed or killed worker is reported, none is left."""

import dataclasses
import logging
import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from components.sft import distributed, job
from components.sft.config import SftConfig
from components.sft.examples import IGNORED, share
from components.sft.training import Training, train
from components.shared.artifacts.checkpoints import latest_trainer_checkpoint
from components.shared.errors import ConfigError, DataError, TrainingError
from components.shared.tracking.tracker import NO_TRACKING, Tracker

# The second batch of an epoch has five examples for two times two: one process gets three, the other two,
# and in one of its forward passes none.
CONFIG = SftConfig(
    epochs=2,
    batch_size=8,
    micro_batch_size=2,
    max_examples=13,
    learning_rate=5.0e-3,
    dtype="float32",
    save_steps=2,
)

Train = Callable[..., Training]


@pytest.fixture
def trained(prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path) -> Train:
    """Return what trains into the folder `name`, from the checkpoint that lies there."""

    def run(name: str, processes: int = 1, tracker: Tracker = NO_TRACKING, **changes: bool) -> Training:
        checkpoints = tmp_path / name / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        step = partial(
            train,
            config=dataclasses.replace(CONFIG, **changes),
            prompts=prompts_folder,
            base_model=tiny_model_folder,
            model=tmp_path / name / "model",
            checkpoint_dir=checkpoints,
            checkpoint=latest_trainer_checkpoint(checkpoints),
        )
        return distributed.run(step, processes, tracker)

    return run


class AtStep(Tracker):
    """Records the steps tracked, and does something at one of them."""

    def __init__(self, step: int = 0, action: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.step, self.action, self.steps = step, action, list[int]()

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.steps.append(step)
        if step == self.step:
            self.action()


def assert_equal(folder: Path, name: str, other: str) -> None:
    first, second = (load_file(folder / n / "model" / "model.safetensors") for n in (name, other))
    assert first.keys() == second.keys()
    for weight in first:
        torch.testing.assert_close(first[weight], second[weight], rtol=0, atol=1e-5)


def test_two_processes_have_the_losses_of_one(
    trained: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = trained("one")
    caplog.clear()
    tracker = AtStep()
    with caplog.at_level(logging.INFO, "recllm"):
        two = trained("two", 2, tracker, gradient_checkpointing=True)
    assert two.losses == pytest.approx(one.losses, abs=1e-5)
    assert_equal(tmp_path, "one", "two")
    assert tracker.steps == [1, 2, 3, 4]
    assert [message for message in caplog.messages if message.startswith("4/4, loss ")], "rank 0 is heard"
    assert len(caplog.messages) == 5, "the others are not"


@pytest.mark.slow
def test_a_killed_worker_is_named_and_any_number_of_processes_resumes(trained: Train, tmp_path: Path) -> None:
    """One process resumes what two with shards began, and two with shards what one began."""
    whole = trained("whole")

    def kill_rank_1() -> None:
        max(multiprocessing.active_children(), key=lambda worker: worker.pid or 0).kill()

    with pytest.raises(TrainingError, match=r"rank 1 of 2 was killed by SIGKILL; where memory ran out"):
        trained("shards", 2, AtStep(3, kill_rank_1), fsdp=True)

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("single", 1, AtStep(3, fail))
    for name, processes in (("shards", 1), ("single", 2)):
        resumed = AtStep()
        losses = trained(name, processes, resumed, fsdp=processes > 1).losses
        assert resumed.steps == [3, 4]
        assert losses == pytest.approx(whole.losses, abs=1e-5)
        assert_equal(tmp_path, "whole", name)


def test_the_error_of_a_worker_is_the_steps_error(
    prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    for processes in (2, 1):
        config = dataclasses.replace(CONFIG, processes=processes, max_length=50)
        with pytest.raises(DataError, match=r"^the training prompt of .* sft\.max_length=50; raise it"):
            job.run(
                config,
                prompts=prompts_folder,
                base_model=tiny_model_folder,
                model=tmp_path / "model",
                curves=tmp_path / "curves.html",
                checkpoints=str(tmp_path / "checkpoints"),
            )
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1, "a checkpoint serves any number of processes"


def test_the_end_of_the_step_ends_its_workers(
    prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, processes=2, epochs=100, save_steps=0)
    script = f"""
import logging
from pathlib import Path
from components.sft.config import AdaptationConfig, SftConfig
from components.sft.job import run
from components.shared.language_model.lora import LoraConfig
logging.basicConfig(level=logging.INFO)
folder = Path({str(tmp_path)!r})
config = {config!r}
inputs = {{"prompts": Path({str(prompts_folder)!r}), "base_model": Path({str(tiny_model_folder)!r})}}
run(config, **inputs, model=folder / "model", curves=folder / "curves.html")
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        limit = threading.Timer(300, process.kill)
        limit.start()
        for line in process.stderr:
            if " examples, " in line:  # all workers run
                break
        workers = psutil.Process(process.pid).children()
        process.terminate()
        assert process.wait() == -signal.SIGTERM
        limit.cancel()
        assert len(workers) >= 2
        assert not psutil.wait_procs(workers, timeout=30)[1]


def test_a_share_without_examples_adds_nothing() -> None:
    examples = [{"input_ids": [n, 1, 2], "labels": [IGNORED, 1, 2]} for n in range(5)]
    assert [row["input_ids"][0] for row in share(examples, 1, 2)] == [1, 3]
    (nothing,) = share(examples[:1], 1, 2)
    assert nothing == {"input_ids": [0, 1, 2], "labels": [IGNORED] * 3}


def test_there_are_as_many_processes_as_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert [distributed.resolve(processes) for processes in (0, 1, 3)] == [1, 1, 3]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert distributed.resolve(0) == 8
    with pytest.raises(ConfigError, match=r"sft\.processes is 9, but 8 GPUs are visible"):
        distributed.resolve(9)
    with pytest.raises(ConfigError, match=r"batch_size \(8\) must be .* \(2\) times 8 processes \(16\)"):
        job.run(CONFIG, prompts=tmp_path, base_model=tmp_path, model=tmp_path, curves=tmp_path)
    with pytest.raises(ValueError, match=r"batch_size \(8\) must be .* \(8\) times 2 processes \(16\)"):
        SftConfig(processes=2)
