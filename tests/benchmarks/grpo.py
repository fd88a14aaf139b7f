"""Measure a GRPO step of the local engine beside TRL's GRPOTrainer, in one run on one machine.

    uv pip install --constraint constraints.txt '.[bench]'
    python tests/benchmarks/grpo.py --steps 3

Both train the same model (SmolLM2-135M-Instruct) on the same prompts of about 512 tokens, one prompt per
step, 12 samples of 128 new tokens, the k3 KL to the start included. The end token is renamed to one that is
not sampled in practice, so that every answer has all 128 tokens in both. Each engine runs in a process of
its own; the first step, which warms up, is not counted. Prints seconds per step (median), sampled
tokens per second, peak memory, and the ratios. `--smoke` takes a model of random weights and a few tokens,
to see that the benchmark works; `--engines local` leaves TRL out.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.base_model.config import BaseModelConfig, RandomWeights
from components.base_model.job import run as make_model
from components.grpo import local
from components.grpo.config import GrpoConfig
from components.shared.language_model.dtype import Dtype, torch_dtype
from components.shared.language_model.load import encode_prompt
from components.shared.prompting.table import PromptRow

SIZES = {"prompt_tokens": 512, "new_tokens": 128, "group": 12}
SMOKE = {"prompt_tokens": 64, "new_tokens": 8, "group": 2}
NEVER_SAMPLED = "<jupyter_script>"
WORDS = "The reader who liked the tea book also liked the chess book and then the jazz record; "


@dataclasses.dataclass(frozen=True)
class Task:
    """What both engines get: a model folder, chat prompts, steps to measure after one of warm-up, sizes."""

    model: Path
    prompts: list[list[dict[str, str]]]
    steps: int
    dtype: Dtype
    beta: float
    prompt_tokens: int
    new_tokens: int
    group: int


def ours(task: Task) -> list[float]:
    """Return seconds of each step of the local engine."""
    config = GrpoConfig(
        steps=task.steps + 1,
        prompts_per_step=1,
        group_size=task.group,
        max_new_tokens=task.new_tokens,
        beta=task.beta,
        eval_every=task.steps + 1,
        eval_prompts=2,
        save_every=0,
        dtype=task.dtype,
    )
    rows = [
        PromptRow(
            user_id=str(n),
            split="train",
            position=0,
            messages=messages,
            labels=[n % 9 + 1],
            candidates=[str(i) for i in range(9)],
            scores=[0.0] * 9,
            titles=[str(i) for i in range(9)],
            history=[],
            tags=[["tea"]] * 9,
            novelty=[1.0] * 9,
            seen=[False] * 9,
            age_days=[1.0] * 9,
            days_since_last=None,
            groups=[],
            label_items=[str(n % 9)],
            label_weights=[1.0],
            answer_length=5,
            completion=None,
        )
        for n, messages in enumerate(task.prompts)
    ]
    with tempfile.TemporaryDirectory() as checkpoint_dir:
        history = local.train(config, task.model, rows, rows[:1], Path(checkpoint_dir)).history
    assert min(history["answer_tokens"]) > task.new_tokens - 1, "answers ended early"
    print(f"local engine: {[round(value, 1) for value in history['seconds']]} s", flush=True)
    return history["seconds"][1:]


def trl(task: Task) -> list[float]:
    """Return seconds of each step of TRL's trainer, its other settings as they come."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **options):
            self.started = time.monotonic()

        def on_step_end(self, *args, **options):
            seconds.append(time.monotonic() - self.started)

    def reward(completions, **columns):
        return [float(len(set(completion[0]["content"]))) for completion in completions]

    half = torch_dtype(task.dtype) == torch.bfloat16
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.float32),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=task.group,
                num_generations=task.group,
                max_completion_length=task.new_tokens,
                max_steps=task.steps + 1,
                learning_rate=1.0e-5,
                beta=task.beta,
                loss_type="grpo",
                temperature=1.0,
                gradient_checkpointing=False,
                bf16=half,
                use_cpu=not torch.cuda.is_available(),
                report_to=[],
                save_strategy="no",
                logging_steps=100,
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in task.prompts]),
            processing_class=AutoTokenizer.from_pretrained(task.model),
            callbacks=[Clock()],
        )
        trainer.train()
    print(f"TRL: {[round(value, 1) for value in seconds]} s", flush=True)
    return seconds[1:]


def measured(engine: Callable[[Task], list[float]], task: Task) -> dict[str, float]:
    """Run `engine` in a fresh process; return its figures."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(engine, task, queue))
    process.start()
    process.join()  # before anything is read: what died has nothing to say
    if process.exitcode:
        raise SystemExit(f"{engine.__name__}: its process ended with exit status {process.exitcode}")
    return queue.get()


def _measure(engine: Callable[[Task], list[float]], task: Task, queue: multiprocessing.Queue) -> None:
    seconds = engine(task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    median = statistics.median(seconds)
    queue.put({"seconds": median, "tokens": task.group * task.new_tokens / median, "peak_gib": peak})


def prepare(folder: Path, prompts: int, tokens: int, smoke: bool) -> list[list[dict[str, str]]]:
    """Write the model whose answers do not end to `folder`; return different prompts of `tokens` tokens."""
    make_model(BaseModelConfig(random_weights=RandomWeights(hidden_size=32) if smoke else None), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = NEVER_SAMPLED
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        settings["eos_token_id"] = tokenizer.eos_token_id
        (folder / name).write_text(json.dumps(settings))
    found = []
    for n in range(prompts):
        messages = [{"role": "user", "content": f"{n} {WORDS * (tokens // 15)}"}]
        while len(encode_prompt(tokenizer, messages)) > tokens:
            messages[0]["content"] = messages[0]["content"].rsplit(" ", 1)[0]
        found.append(messages)
    return found


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--beta", type=float, default=0.02)
    parser.add_argument("--engines", choices=("both", "local"), default="both")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    sizes = SMOKE if options.smoke else SIZES
    # As `recllm run` sets it: threads that spin while they wait slow both engines down on a busy machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        prompts = prepare(model, options.steps + 1, sizes["prompt_tokens"], options.smoke)
        task = Task(model, prompts, options.steps, options.dtype, options.beta, **sizes)
        found = {"TRL": measured(trl, task)} if options.engines == "both" else {}
        found["local engine"] = measured(ours, task)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} cores"
    print(f"\nGRPO, {task.group} x ({task.prompt_tokens} + {task.new_tokens}) tokens, {device}, ", end="")
    print(f"{torch_dtype(options.dtype)}, beta {options.beta:g}, median of {options.steps} steps")
    print("| engine | s a step | tokens/s | peak GiB |\n|---|---|---|---|")
    for name, figures in found.items():
        print(f"| {name} | {figures['seconds']:.1f} | {figures['tokens']:.0f} | {figures['peak_gib']:.1f} |")
    if "TRL" not in found:
        return
    ratio = {name: found["local engine"][name] / found["TRL"][name] for name in ("seconds", "peak_gib")}
    print(f"local engine / TRL: {ratio['seconds']:.2f} of the time, {ratio['peak_gib']:.2f} of the memory")


if __name__ == "__main__":
    main()
