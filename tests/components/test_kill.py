"""Kill -9 at random moments: the next try goes on to the very same weights, and the disk stays small."""

import gc
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from components.grpo.config import GrpoConfig
from components.sft.config import SftConfig
from components.shared.artifacts import checkpoint_store, storage
from components.shared.artifacts.fingerprint import of_folder
from tests.components.shared.artifacts.s3_server import serving

KILLS = 20
FILE_OPERATIONS = 100
"""About as many as an uninterrupted run of either step has."""

SFT = SftConfig(
    batch_size=2, micro_batch_size=1, max_examples=8, learning_rate=5.0e-3, dtype="float32", save_steps=1
)
GRPO = GrpoConfig(
    steps=4,
    prompts_per_step=1,
    group_size=4,
    learning_rate=1.0e-3,
    max_new_tokens=4,
    eval_every=1,
    eval_prompts=2,
    dtype="float32",
    save_every=1,
)
VALID_NDCG = (0.0, 0.2, 0.1, 0.3, 0.4)
"""After each step: a random model never ranks, yet there shall be bests, and steps that are none."""

CHECKPOINTS = "TEST_CHECKPOINTS"
"""Environment variable with the checkpoints' URI; otherwise they are in the test's folder."""

Step = Callable[[Path, Path, Path], None]
Start = Callable[..., BaseProcess]


def checkpoints(folder: Path) -> str:
    return os.environ.get(CHECKPOINTS) or str(folder / "checkpoints")


def sft(prompts: Path, model: Path, folder: Path) -> None:
    from components.sft.job import run

    outputs = {"model": folder / "model", "curves": folder / "curves.html"}
    run(SFT, prompts=prompts, base_model=model, checkpoints=checkpoints(folder), **outputs)


def grpo(prompts: Path, model: Path, folder: Path) -> None:
    from components.grpo import local, rollout
    from components.grpo.job import run

    def vowels(text: str, *_: Any) -> dict[str, float]:
        """A reward that random answers differ in: where all are equal, nothing is learnt."""
        share = sum(letter in "aeiou" for letter in text) / max(1, len(text))
        return {"lcs": share, "reward": share}

    class State(local.State):
        def add_validation(self, scores: Any, answers: Any) -> None:
            same = [VALID_NDCG[self.step]] * len(answers)
            super().add_validation({**scores, "valid_ndcg@10": same}, answers)

    rollout.score, local.State = vowels, State
    outputs = {name: folder / name for name in ("model", "curves", "alarms")}
    run(GRPO, prompts=prompts, sft_model=model, checkpoints=checkpoints(folder), **outputs)


def attempt(
    step: Step, prompts: Path, model: Path, folder: Path, last: int, machine: Callable[[], None] | None
) -> None:
    """Run `step` in a process of its own; die at its file operation number `last` (0 = never)."""
    import torch
    import tqdm

    if machine:
        machine()
    torch.set_num_threads(1)
    tqdm.tqdm.set_lock(threading.RLock())  # its own is a semaphore, of which a kill leaves one each time
    gc.freeze()  # else it takes half of the time to search what was imported
    if last:
        die_at_file_operation(last, str(folder))
    step(prompts, model, folder)


def die_at_file_operation(last: int, folder: str) -> None:
    done = 0

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal done
        here = event in ("open", "os.mkdir", "os.rename", "shutil.rmtree") and folder in str(args[0])
        if here or event in ("os.remove", "os.rmdir"):  # shutil.rmtree gives these a bare name
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def machine(environment: Mapping[str, str], scratch: Path, dies: str) -> None:
    """Have a temporary folder of one's own; die "before" or "after" the first snapshot's marker is stored."""
    os.environ.update(environment)
    scratch.mkdir()
    tempfile.tempdir = str(scratch)

    def upload(file: Path, uri: str) -> None:
        if uri.endswith(".json") and dies == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        storage.upload(file, uri)
        if uri.endswith(".json"):
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint_store.upload = upload


@pytest.fixture
def start(prompts_folder, tiny_model_folder, pytestconfig, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return what starts `attempt` of a step in a folder, in a fork of what has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["components.sft.job", "components.grpo.job", "pytest"])
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))  # where the fork finds this module

    def started(
        step: Step, folder: Path, last: int = 0, machine: Callable[[], None] | None = None
    ) -> BaseProcess:
        process = context.Process(
            target=attempt, args=(step, prompts_folder, tiny_model_folder, folder, last, machine)
        )
        process.start()
        return process

    return started


def exit_code(process: BaseProcess, seconds: float | None = None) -> int | None:
    """Wait for the end of the process, and bring it about after `seconds`."""
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "most"),
    [
        pytest.param(sft, {"checkpoint-": 2}, id="sft"),
        pytest.param(grpo, {"latest": 1, "best-": 2, ".*.partial": 1, ".*.old": 1, ".*.lock": 1}, id="grpo"),
    ],
)
def test_a_killed_step_goes_on_to_the_same_weights(
    step: Step, most: dict[str, int], start: Start, tiny_model_folder: Path, tmp_path: Path
) -> None:
    """Every other kill comes at a file operation, which take little of the time and matter most.

    `most` is what may lie in the checkpoint directory. SFT: the latest, and one being written or removed.
    GRPO: the latest, the best that it names, the best since then, and one being written, with its lock.
    """
    assert exit_code(start(step, tmp_path / "first")) == 0  # not timed: it starts the server of forks, too
    began = time.monotonic()
    assert exit_code(start(step, tmp_path / "whole")) == 0
    seconds = time.monotonic() - began
    whole = of_folder(tmp_path / "whole" / "model")
    assert whole == of_folder(tmp_path / "first" / "model")
    assert whole != of_folder(tiny_model_folder)
    moments, kills, folder = random.Random(0), 0, tmp_path / "killed"
    while kills < KILLS or folder.exists():
        moment = moments.random()
        if kills == KILLS:
            code = exit_code(start(step, folder))
        elif kills % 2:
            code = exit_code(start(step, folder, last=1 + int(FILE_OPERATIONS * moment)))
        else:
            code = exit_code(start(step, folder), seconds * moment)
        assert code in (0, -signal.SIGKILL), "what a kill leaves fails no later try"
        for name, number in most.items():
            found = list(folder.glob(f"checkpoints/*/{name}*"))
            assert len(found) <= number, found
        if (folder / "model").exists():
            assert of_folder(folder / "model") == whole
        if code == 0:
            assert sorted(os.listdir(folder)) == sorted(os.listdir(tmp_path / "whole"))
            assert not any((folder / "checkpoints").iterdir())
            shutil.rmtree(folder)  # the next kills come to a training that begins anew
        kills += code != 0


@pytest.mark.slow
@pytest.mark.parametrize("step", [sft, grpo])
def test_a_step_goes_on_to_the_same_weights_on_another_machine(
    step: Step, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a killed machine nothing is left but what it stored: each second one adds a step's checkpoint."""
    assert exit_code(start(step, tmp_path / "whole")) == 0
    uri, kills, snapshots = "s3://bucket/checkpoints", 0, set()
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.upload(tmp_path / "whole" / "model", "bucket", "other")
        for dies in cycle(("before", "after")):
            folder = tmp_path / f"machine-{kills}"
            here = partial(machine, server.environment | {CHECKPOINTS: uri}, tmp_path / f"{kills}", dies)
            code = exit_code(start(step, folder, machine=here))
            if code == 0:
                break
            kills += 1
            assert code == -signal.SIGKILL and kills <= 8
            snapshots |= {file.path for file in storage.Folder.at(uri).files() if file.extension == "json"}
        assert (kills, len(snapshots)) == (8, 4)
        assert of_folder(folder / "model") == of_folder(tmp_path / "whole" / "model")
        assert not storage.Folder.at(uri).files()
