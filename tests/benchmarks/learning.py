"""Measure whether GRPO learns: reward and NDCG@10 of held-out prompts before and after, over several seeds.

    python tests/benchmarks/learning.py --seeds 3 --steps 16

Prompts and SFT model are those of the `laptop` profile on its generated log, made by the pipeline itself
in `--runs` unless they are there, with two changes. Candidates are fused from item-to-item and popularity
(shuffled), so that more can be found out from rewards than SFT teaches: not all of them are to the user's
taste. Answers have no reasoning, which takes a third of the time. Every seed trains from that SFT model on
training prompts. Measured are greedy answers to validation prompts with a retrieved label, none of which was
trained on, by the model after the last step: no step is picked by its figure. Prints means and their paired
differences with 95 % bootstrap intervals over prompts, for each seed and over all (a prompt's mean over seeds
is resampled).
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from components.evaluate.significance import bootstrap_means, interval
from components.grpo import local
from components.grpo.config import GrpoConfig
from components.grpo.rewards import business_terms, score
from components.grpo.rollout import judged
from components.shared.config import to_json
from components.shared.fingerprint import of_text
from components.shared.generate import LanguageModel, complete
from components.shared.language_model import load
from components.shared.prompt_table import PromptRow, drawn, read_prompts
from components.shared.trainable import merged
from pipelines import local as pipeline
from pipelines import profile as profiles
from pipelines.lineage import of_code

CHANGES = {
    "retrieve": {"models": ["popularity", "item_to_item"], "candidates_from": "item_to_item+popularity"},
    "prompts": {"rationale": False, "valid_prompts": 0, "test_prompts": 1},
    "grpo": {"steps": 0},
    "gate": {"dry_run": True},
}
SETTINGS = {"prompts_per_step": 6, "group_size": 8, "max_new_tokens": 32, "beta": 0.0, "save_every": 0}
FIGURES = ("reward", "NDCG@10", "valid")


def prepared(runs: Path) -> tuple[Path, Path]:
    """Return the folders of the prompts table and the SFT model, made if they are not there."""
    laptop = profiles.load("laptop", CHANGES)
    name = f"learning-{of_text(to_json(laptop), of_code())}"
    if not any(runs.glob(f"{name}-*/*/evaluate/report")):
        pipeline.run(laptop, "laptop", None, runs, cache=False, verbose=False, run_name=name)
    found = [report.parents[1] / "sft" / "model" for report in runs.glob(f"{name}-*/*/evaluate/report")]
    return found[-1].parents[1] / "prompts" / "prompts", found[-1]


def answered(lm: LanguageModel, rows: list[PromptRow], config: GrpoConfig) -> np.ndarray:
    """Return FIGURES of the greedy answer to each of `rows`, [figure, prompt]."""
    completions = complete(
        lm, [row.messages for row in rows], max_new_tokens=config.max_new_tokens, batch_size=32
    )
    business = business_terms(config.reward)
    texts = [answers[0].text for answers in completions]
    scored = [score(text, row, config.reward, business) for text, row in zip(texts, rows, strict=True)]
    return np.array([[one["reward"] for one in scored], *judged(texts, rows).values()])


def row_of(name: str, before: np.ndarray, after: np.ndarray, told: str) -> str:
    """Return a line of the table: means before and after, difference and its interval, of each figure."""
    cells = [name]
    for number in range(len(FIGURES)):
        change = after[number] - before[number]
        bounds = interval(bootstrap_means(change[None], 5000, 0)[:, 0], 0.95)
        cells.append(
            f"{before[number].mean():.4f} to {after[number].mean():.4f}: {change.mean():+.4f} "
            f"[{bounds.low:+.4f}, {bounds.high:+.4f}]"
        )
    return f"| {' | '.join([*cells, told])} |"


def main() -> None:
    """Train every seed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3.0e-5)
    parser.add_argument("--prompts", type=int, default=300, help="held-out prompts, a seeded sample; 0 = all")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    folder, sft_model = prepared(options.runs.resolve())
    base = dataclasses.replace(
        profiles.load("laptop").grpo,
        **SETTINGS,
        steps=options.steps,
        learning_rate=options.learning_rate,
        eval_every=options.steps,
        eval_prompts=4,
    )
    rows = [row for row in read_prompts(folder, "train") if row.labels]
    held_out = [row for row in read_prompts(folder, "valid") if row.labels]
    held_out = [held_out[i] for i in drawn(len(held_out), options.prompts, 0)]
    before = answered(load(sft_model, base.dtype), held_out, base)
    print(f"{len(rows)} training prompts, {len(held_out)} held-out prompts, {base}", flush=True)
    table, all_after = [], []
    for seed in range(options.seeds):
        config = dataclasses.replace(base, seed=seed)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            state = local.train(config, sft_model, rows, held_out[:4], Path(place))
        trained = time.monotonic() - started
        policy = merged(state.policy).to(local.torch_dtype(config.dtype)).eval()
        with torch.inference_mode():
            after = answered(LanguageModel(policy, load(sft_model, base.dtype).tokenizer), held_out, config)
        all_after.append(after)
        rewards = state.history["reward"]
        quarter = max(1, len(rewards) // 4)
        sampled = f"{np.mean(rewards[:quarter]):.3f} to {np.mean(rewards[-quarter:]):.3f}, {trained:.0f} s"
        table.append(row_of(f"seed {seed}", before, after, sampled))
        print(table[-1], flush=True)
    table.append(row_of(f"mean of {options.seeds}", before, np.mean(all_after, 0), ""))
    print("\n| | " + " | ".join(f"{name}, SFT to GRPO" for name in FIGURES) + " | sampled reward, time |")
    print("|" + "---|" * (len(FIGURES) + 2))
    print("\n".join(table))


if __name__ == "__main__":
    main()
