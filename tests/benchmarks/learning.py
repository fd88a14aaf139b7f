"""Measure whether GRPO learns: reward and NDCG@10 of held-out prompts before and after, over several seeds.

    python tests/benchmarks/learning.py --seeds 3

Prompts and SFT model come from the `laptop` profile's pipeline on its generated log, made in `--runs`
unless they are there, with what CHANGES says: four times the users; candidates fused from item-to-item and
popularity and shuffled, so that most of what there is to find is in the text; short prompts and generated
answers without reasoning, which take a quarter of the time; SFT on all training prompts, as it learns to
match tastes only after some 60 steps. Every seed trains from that one SFT model on the training prompts.
Measured is the model after the last step (no step is picked by its figure), on validation prompts with a
retrieved label, none of which was trained on: greedy answers, as a model is served, and answers sampled at
temperature 1, which GRPO optimises. Prints means and their paired differences with 95 % bootstrap intervals
over prompts, for each seed and over all (a prompt's mean over seeds is resampled). `--table` and `--model`
replace the pipeline's prompts table and SFT model.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from components.evaluate.comparison import interval, resampled_means
from components.grpo import local
from components.grpo.config import GrpoConfig
from components.grpo.rewards import business_terms, score
from components.grpo.rollout import validation_scores
from components.shared.artifacts.fingerprint import of_step, of_text
from components.shared.config import to_json
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.generate import complete
from components.shared.language_model.load import LanguageModel, load
from components.shared.language_model.lora import merge_adapters
from components.shared.prompting.table import PromptRow, read_prompts, sample_indices
from pipelines import local as pipeline
from pipelines import profile as profiles

CHANGES = {
    "sample": {"users": 6400},
    "retrieve": {
        "models": ["popularity", "item_to_item"],
        "candidates_from": "item_to_item+popularity",
        "num_candidates": 8,
    },
    "prompts": {
        "rationale": False,
        "valid_prompts": 0,
        "test_prompts": 1,
        "max_history": 4,
        "interests": 2,
        "title_chars": 20,
        "answer_length": 3,
        "target": "cues",
        "shuffle_candidates": True,
    },
    "sft": {
        "answers": "generate",
        "max_examples": 0,
        "learning_rate": 3.0e-4,
        "max_length": 512,
        "train_layers": 15,
    },
    "grpo": {"steps": 0},
    "gate": {"dry_run": True},
}
SETTINGS = GrpoConfig(prompts_per_step=8, group_size=8, max_new_tokens=20, beta=0.0, save_every=0)
FIGURES = ("reward", "NDCG@10", "valid", "sampled reward", "sampled NDCG@10")
SAMPLES = 4


def prepared(runs: Path) -> tuple[Path, Path]:
    """Return the folders of the prompts table and the SFT model, made if they are not there."""
    laptop = profiles.load("laptop", CHANGES)
    code = map(of_step, ("etl", "retrieve", "base_model", "sft"))
    name = f"learning-{of_text(to_json(laptop), *code)}"
    if not any(runs.glob(f"{name}-*/*/evaluate/report")):
        pipeline.run(laptop, "laptop", None, runs, cache=False, verbose=False, run_name=name)
    found = [report.parents[1] / "sft" / "model" for report in runs.glob(f"{name}-*/*/evaluate/report")]
    return found[-1].parents[1] / "prompts" / "prompts", found[-1]


def figures_of(lm: LanguageModel, rows: list[PromptRow], config: GrpoConfig) -> np.ndarray:
    """Return FIGURES of answers to each of `rows`, [figure, prompt]; sampled ones are means of SAMPLES."""
    greedy = scored_answers(lm, rows, config, 1, 0.0)
    return np.concatenate([greedy, scored_answers(lm, rows, config, SAMPLES, 1.0)[:2]])


def scored_answers(
    lm: LanguageModel, rows: list[PromptRow], config: GrpoConfig, samples: int, temperature: float
) -> np.ndarray:
    """Return reward, NDCG@10 and validity of the answers to each of `rows`, means over its samples."""
    completions = complete(
        lm,
        [row.messages for row in rows],
        max_new_tokens=config.max_new_tokens,
        num_samples=samples,
        temperature=temperature,
        batch_size=32 // samples,
    )
    business = business_terms(config.reward)
    texts = [answer.text for answers in completions for answer in answers]
    repeated = [row for row in rows for _ in range(samples)]
    rewards = [
        score(text, row, config.reward, business)["reward"] for text, row in zip(texts, repeated, strict=True)
    ]
    scores = validation_scores(texts, repeated, config.reward)
    figures = np.array([rewards, scores["valid_ndcg@10"], scores["valid_share"]])
    return figures.reshape(3, len(rows), samples).mean(2)


def table_row(name: str, before: np.ndarray, after: np.ndarray, seconds: str) -> str:
    """Return a line of the table: means before and after, difference and its interval, of each figure."""
    cells = [name]
    for number in range(len(FIGURES)):
        change = after[number] - before[number]
        bounds = interval(resampled_means(change, 5000, 0), 0.95)
        cells.append(
            f"{before[number].mean():.4f} to {after[number].mean():.4f}: {change.mean():+.4f} "
            f"[{bounds.low:+.4f}, {bounds.high:+.4f}]"
        )
    return f"| {' | '.join([*cells, seconds])} |"


def main() -> None:
    """Train every seed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=5.0e-5)
    parser.add_argument("--train-layers", type=int, default=15, help="the topmost layers; 0 = all")
    parser.add_argument("--prompts", type=int, default=600, help="held-out prompts, a seeded sample; 0 = all")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--table", type=Path, help="a prompts table, in place of the pipeline's")
    parser.add_argument("--model", type=Path, help="an SFT model, in place of the pipeline's")
    options = parser.parse_args()
    if (options.table is None) != (options.model is None):
        parser.error("--table and --model go together")
    folder, sft_model = (options.table, options.model) if options.table else prepared(options.runs.resolve())
    base = dataclasses.replace(
        SETTINGS,
        train_layers=options.train_layers,
        steps=options.steps,
        learning_rate=options.learning_rate,
        eval_every=options.steps,
        eval_prompts=4,
    )
    rows = [row for row in read_prompts(folder, "train") if row.labels]
    held_out = [row for row in read_prompts(folder, "valid") if row.labels]
    held_out = [held_out[i] for i in sample_indices(len(held_out), options.prompts, 0)]
    before = figures_of(load(sft_model, base.dtype), held_out, base)
    print(f"{len(rows)} training prompts, {len(held_out)} held-out prompts, {base}", flush=True)
    table, all_after = [], []
    for seed in range(options.seeds):
        config = dataclasses.replace(base, seed=seed)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as checkpoint_dir:
            state = local.train(config, sft_model, rows, held_out[:4], Path(checkpoint_dir))
        trained = time.monotonic() - started
        policy = merge_adapters(state.policy).to(torch_dtype(config.dtype)).eval()
        with torch.inference_mode():
            after = figures_of(LanguageModel(policy, load(sft_model, base.dtype).tokenizer), held_out, config)
        all_after.append(after)
        table.append(table_row(f"seed {seed}", before, after, f"{trained:.0f} s"))
        print(table[-1], flush=True)
    table.append(table_row(f"mean of {options.seeds}", before, np.mean(all_after, 0), ""))
    print("\n| | " + " | ".join(f"{name}, SFT to GRPO" for name in FIGURES) + " | training |")
    print("|" + "---|" * (len(FIGURES) + 2))
    print("\n".join(table))


if __name__ == "__main__":
    main()
