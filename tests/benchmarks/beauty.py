"""What a language model adds to the order of a blend without networks on Amazon Beauty, by title likelihood.

    python tests/benchmarks/beauty.py --cache FOLDER

prints NDCG@10, ILAD@10 and novelty@10 (bits) of the candidates' order, of LightGBM with the same facts, of
the base model, after SFT, of SFT's scores beside LightGBM's instead of the order's, and after the same steps
of GRPO, of its control (SFT's loss on the same prompts) and of GRPO with business terms; then their
differences with intervals over all test users. Only prompts whose label is among the first K are asked: any
order of the others has the same NDCG@10 (`--everybody` asks them too). ILAD and novelty are of the prompts
whose label is among the K. Each stage leaves its result in the cache folder, which belongs to these options,
and a second call resumes after the last one. `--test` takes a seeded sample of the test prompts, whose scores
a larger one keeps. RECLLM_DATA names the folder of the public datasets.
"""

# Smoke run, some thirty seconds, without any data: python tests/benchmarks/beauty.py --smoke

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import public_logs
import retrieve
import torch
from beauty_prompts import TREES, write_prompts

from components.base_model import job as base_model
from components.base_model.config import BaseModelConfig, RandomWeights
from components.evaluate.comparison import interval, resampled_means
from components.grpo import job as grpo
from components.grpo.config import GrpoConfig, RewardWeights
from components.retrieve.interactions import Interactions
from components.sft import job as sft
from components.sft.config import SftConfig
from components.shared.artifacts import fingerprint
from components.shared.artifacts.outputs import atomic_file
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker, target_shares
from components.shared.language_model.scoring import Worth, question, ranking, score_each
from components.shared.language_model.trunk import Trunk, equal_layers
from components.shared.metrics import mean, set_ilad
from components.shared.prompting.table import PromptRow, read_prompts
from data_contracts.tables import SPLITS

CHUNK = 500
"""Prompts whose scores are saved together."""
ORDER, LIGHTGBM, UNTRAINED, SFT = "candidates' order", "LightGBM, same facts", "untrained", "SFT"
BOTH = "LightGBM and SFT"
GRPO, CONTROL, BUSINESS = "GRPO", "control", "GRPO, ILAD and novelty"
COMPARED = (
    (LIGHTGBM, ORDER),
    (UNTRAINED, ORDER),
    (SFT, ORDER),
    (SFT, LIGHTGBM),
    (BOTH, LIGHTGBM),
    (GRPO, SFT),
    (CONTROL, SFT),
    (GRPO, CONTROL),
    (BUSINESS, SFT),
)
METRICS = ("NDCG@10", "ILAD@10", "novelty@10")


def fine_tune(name: str, options: argparse.Namespace, cache: Path, model: Path, seed: int) -> None:
    """Write `model`: SFT of the base model, or the base model with the weights that its scores get."""
    config = SftConfig(
        answers=options.answers,
        max_examples=options.examples,
        negatives=options.negatives,
        fuse_prompts=options.fuse,
        epochs=0 if name == UNTRAINED else 1,
        batch_size=32,
        micro_batch_size=32 if torch.cuda.is_available() else 8,
        max_length=2048,
        train_layers=options.train_layers,
        seed=seed,
    )
    inputs = {"prompts": cache / "prompts", "base_model": cache / "base", "model": model}
    print(f"{name}: {sft.run(config, **inputs, curves=_page(model), checkpoints=_kept(model))}", flush=True)


def go_on(name: str, options: argparse.Namespace, cache: Path, model: Path, seed: int) -> None:
    """Write `model`: steps of GRPO, of its control or of GRPO with business terms after SFT."""
    business = {"ilad": 1.0, "novelty": 1.0} if name == BUSINESS else {}
    config = GrpoConfig(
        objective="sft" if name == CONTROL else "grpo",
        steps=options.steps,
        prompts_per_step=options.per_step,
        group_size=16,
        learning_rate=5.0e-5 if business else 2.0e-5,
        eval_every=max(1, options.steps // 2),
        eval_prompts=options.validated,
        save_every=10,
        train_layers=options.train_layers,
        reward=RewardWeights(lcs=0.0, ndcg=1.0, business=business),
        seed=seed,
    )
    inputs = {"prompts": cache / "prompts", "sft_model": model.parent / SFT, "model": model}
    alarms = model.with_name(f"{name}.json")
    done = grpo.run(config, **inputs, curves=_page(model), alarms=alarms, checkpoints=_kept(model))
    print(f"{name}: {done}", flush=True)


def _page(model: Path) -> Path:
    return model.with_name(f"{model.name}.html")


def _kept(model: Path) -> str:
    return str(model.with_name(f"checkpoints of {model.name}"))


def values_of(rows: Sequence[PromptRow], logits: Sequence[Sequence[float]]) -> np.ndarray:
    """Return METRICS of each prompt's candidates sorted by `logits`, [metric, prompt]."""
    values = []
    for row, own in zip(rows, logits, strict=True):
        order = ranking(list(own))
        rank = order.index(row.labels[0]) + 1 if row.labels else 11
        first = [number - 1 for number in order[:10]]
        diversity, bits = set_ilad([set(row.tags[n]) for n in first]), mean([row.novelty[n] for n in first])
        values.append((1 / np.log2(rank + 1) if rank <= 10 else 0.0, diversity, bits))
    return np.array(values).T


def scored(
    folder: Path, models: Sequence[str], rows: Sequence[PromptRow], split: str
) -> list[list[np.ndarray]]:
    """Return the scores of each prompt's candidates by each of `models`; they are cached in `folder`."""
    # GRPO and its control without a better step are the SFT model, which is read once.
    weights = {name: fingerprint.of_folder(folder / name, "*.safetensors") for name in models}
    distinct = {of_weights: name for name, of_weights in weights.items()}
    models = list(distinct.values())
    answers = Ranker.read(folder / models[0]).answers
    kept = folder / "scores"
    kept.mkdir(exist_ok=True)
    readers: list[Any] = []
    worths: list[Worth] = [{} for _ in models]
    found: list[list[np.ndarray]] = [[] for _ in models]
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        file = kept / f"{split} {start}-{start + len(part)}.npz"
        if not file.is_file():
            begun = time.monotonic()
            if not readers:
                tokenizer, readers = opened([folder / name for name in models])
            asked = [question(tokenizer, answers, row) for row in part]
            scores, _ = score_each(readers, asked, None, worths)
            flat = np.array([[value for row in own for value in row] for own in scores])
            with atomic_file(file) as partial, partial.open("wb") as stream:
                np.savez(stream, scores=flat)
            rate = len(part) / (time.monotonic() - begun)
            print(
                f"{start + len(part)} of {len(rows)} {split} prompts scored, {rate:.2f} a second", flush=True
            )
        ends = np.cumsum([len(row.candidates) for row in part])
        for own, flat in zip(found, np.load(file)["scores"], strict=True):
            own += np.split(flat, ends[:-1])
    by_weights = dict(zip(distinct, found, strict=True))
    return [by_weights[of_weights] for of_weights in weights.values()]


def opened(models: Sequence[Path]) -> tuple[Any, list[Any]]:
    """Return the tokenizer of `models` and what reads prompts; equal first layers are computed once."""
    loaded = [load(model) for model in models]
    readers = [lm.model for lm in loaded]
    depth = min((equal_layers(models[0], other) for other in models[1:]), default=0)
    return loaded[0].tokenizer, Trunk(readers, depth).uppers if depth else readers


def trained(
    options: argparse.Namespace, cache: Path, rows: Sequence[PromptRow], by_trees: Sequence[PromptRow]
) -> dict[str, np.ndarray]:
    """Run the stages that `cache` does not hold yet; return METRICS by model, the means over seeds."""
    if not (cache / "base").is_dir():
        random = RandomWeights(hidden_size=32) if options.smoke else None
        base_model.run(BaseModelConfig(random_weights=random), cache / "base")
    stages = {UNTRAINED: fine_tune, SFT: fine_tune, GRPO: go_on, CONTROL: go_on, BUSINESS: go_on}
    valid = read_prompts(cache / "prompts" / TREES, "valid", options.fuse)
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*stages, BOTH)}
    for seed in range(options.seeds):
        folder = cache / f"seed {seed}"
        folder.mkdir(exist_ok=True)
        for name, train in stages.items():
            if not (folder / name).is_dir():
                train(name, options, cache, folder / name, seed)
        scores = dict(zip(stages, scored(folder, list(stages), rows, "test"), strict=True))
        for name, own in scores.items():
            found[name].append(ordered(Ranker.read(folder / name), own, rows))
        (of_valid,) = scored(folder, [SFT], valid, "valid")
        shares = [target_shares(row) for row in valid]
        both = Ranker(options.answers).fitted(of_valid, [row.scores for row in valid], shares)
        print(f"{BOTH}: {both.scale:.3g} x model + {both.fuse:.3g} x LightGBM", flush=True)
        found[BOTH].append(ordered(both, scores[SFT], by_trees))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def ordered(ranker: Ranker, scores: Sequence[np.ndarray], rows: Sequence[PromptRow]) -> np.ndarray:
    """Return METRICS of each prompt in the order of the model's `scores` and the prompt's."""
    return values_of(rows, ranker.all_logits(scores, [row.scores for row in rows]))


def difference(values: np.ndarray, users: int) -> str:
    """Return the mean of `values` with its interval; of `users` those beyond the values count as zeros."""
    everybody = np.zeros(users)
    everybody[: len(values)] = values
    bounds = interval(resampled_means(everybody[None], 2000, 0)[0], 0.95)
    return f"{everybody.mean():+.4f} [{bounds.low:+.4f}, {bounds.high:+.4f}]"


def measure(data: Interactions, options: argparse.Namespace, cache: Path) -> list[str]:
    """Run all stages that `cache` does not hold yet, and return the lines of both tables."""
    prompts = cache / "prompts"
    if not all(
        (prompts / f"{split}.parquet").is_file() for split in (*SPLITS, f"{TREES}/valid", f"{TREES}/test")
    ):
        prompts.mkdir(parents=True, exist_ok=True)
        write_prompts(data, options.order, (options.k, options.pool), options.everybody, prompts)
    every = [read_prompts(folder, "test") for folder in (prompts, prompts / TREES)]
    # In a seeded order, so that each sample of the test prompts is the beginning of any larger one.
    drawn = np.random.default_rng(0).permutation(len(every[0]))[: options.test or None]
    rows, by_trees = ([table[n] for n in drawn] for table in every)
    values = {
        ORDER: values_of(rows, [row.scores for row in rows]),
        LIGHTGBM: values_of(by_trees, [row.scores for row in by_trees]),
        **trained(options, cache, rows, by_trees),
    }
    users = len(data.queries("test")) * len(rows) // len(every[0])
    return tables(values, np.array([bool(row.labels) for row in rows]), users)


def tables(values: dict[str, np.ndarray], has_label: np.ndarray, users: int) -> list[str]:
    """Return means and differences of METRICS [metric, asked]; NDCG@10 is over all `users`."""
    lines = [f"| order | {' | '.join(METRICS)} |", "|---|---:|---:|---:|"]
    for name, (ndcg, *others) in values.items():
        cells = [f"{ndcg.sum() / users:.4f}", *(f"{part[has_label].mean():.4f}" for part in others)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| difference | {' | '.join(METRICS)} |", "|---|---:|---:|---:|"]
    for name, baseline in COMPARED:
        ndcg, *others = values[name] - values[baseline]
        asked = [difference(part[has_label], has_label.sum()) for part in others]
        lines.append(f"| {name} - {baseline} | {' | '.join([difference(ndcg, users), *asked])} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder of the stages' results")
    parser.add_argument("--users", type=int, default=0, help="a seeded sample of users; 0 = all")
    parser.add_argument("--order", default="blend", choices=("blend", "blend_with_time"))
    parser.add_argument("--k", type=int, default=20, help="candidates, 20 at most: LightGBM orders so many")
    parser.add_argument("--pool", type=int, default=100, help="best items of each model that the blend ranks")
    parser.add_argument("--answers", default="title_likelihood", choices=("title_likelihood", "label_logits"))
    parser.add_argument("--examples", type=int, default=9600, help="train prompts of SFT; 0 = all")
    parser.add_argument("--negatives", type=int, default=0, help="candidates beside the label; 0 = all")
    parser.add_argument("--fuse", type=int, default=600, help="prompts that the weights are learnt from")
    parser.add_argument("--steps", type=int, default=40, help="of GRPO and of its control")
    parser.add_argument("--per-step", type=int, default=32, help="prompts of each of these")
    parser.add_argument("--validated", type=int, default=500, help="prompts that judge GRPO's best step")
    parser.add_argument("--train-layers", type=int, default=0, help="topmost layers that learn; 0 = all")
    parser.add_argument("--seeds", type=int, default=1, help="trainings whose values are averaged by prompt")
    parser.add_argument("--test", type=int, default=0, help="test prompts that are asked; 0 = all")
    parser.add_argument("--everybody", action="store_true", help="also ask where no order can matter")
    parser.add_argument("--smoke", action="store_true", help="a generated log and a random model")
    options = parser.parse_args()
    if not options.smoke and not options.cache:
        parser.error("--cache names the folder of the stages' results")
    if options.smoke:
        options.k, options.pool, options.examples, options.steps, options.per_step = 2, 20, 8, 1, 2
        data = retrieve.synthetic(300, items=500)
    else:
        data = public_logs.read(public_logs.BEAUTY, options.users, ("title",))
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(data, options, options.cache or Path(scratch))
    print("\n".join(table))


if __name__ == "__main__":
    main()
