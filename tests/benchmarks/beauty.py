"""What a language model adds to the strongest conventional order on Amazon Beauty, by title likelihood.

    python tests/benchmarks/beauty.py --cache FOLDER --users 0 --examples 3000 --answers title_likelihood

prints NDCG@10 of the candidates' order (a blend without networks), of the base model's scores beside it, and
of the fine-tuned model's, with the difference and its interval over all test users. Only prompts whose label
is among the first K are asked: any order of the others has the same NDCG@10 (`--everybody` asks them too).
Each stage leaves its result in the cache folder, which belongs to these options, and a second call goes on
after the last one. `--test` takes a seeded sample of the test prompts. RECLLM_DATA names the folder of the
public datasets.
"""

# Smoke run, some ten seconds, without any data: python tests/benchmarks/beauty.py --smoke

import argparse
import ast
import dataclasses
import gzip
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import retrieve

from components.base_model import job as base_model
from components.base_model.config import BaseModelConfig, RandomWeights
from components.evaluate.comparison import interval, resampled_means
from components.retrieve.blend.config import BlendConfig
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.interactions import Interactions, Queries
from components.retrieve.model_config import ContentConfig
from components.retrieve.ranking import RankedLists
from components.sft import job as sft
from components.sft.config import SftConfig
from components.shared.artifacts.outputs import atomic_file
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.scoring import question, ranking, score_all
from components.shared.prompting.render import Candidate, Interaction, PromptInput, messages, shorten
from components.shared.prompting.table import PromptRow, read_prompts
from data_contracts.tables import PROMPTS, SPLITS

MODELS = ("item_to_item", "directed", "transition_graph", "content")
SHOWN = 8
"""Items of the history in a prompt."""
CHUNK = 200
"""Prompts whose scores are saved together."""


def titles_of(path: Path, data: Interactions) -> list[str]:
    """Return the title of each item of the catalogue, at most 60 characters, or its id."""
    with gzip.open(path, "rt") as file:
        found = {item["asin"]: item.get("title", "") for item in map(ast.literal_eval, file)}
    return [shorten(found.get(item) or item, 60) for item in data.item_ids]


def write_prompts(data: Interactions, titles: list[str], options: argparse.Namespace, folder: Path) -> None:
    """Write the prompts of every split, with the blend's first K items as candidates."""
    config = dataclasses.replace(
        retrieve.beauty_config(1),
        candidates_from=options.order,
        num_candidates=options.k,
        ranking_depth=options.k,
        blend=BlendConfig(models=MODELS, pool=options.pool),
        content=ContentConfig(by="text"),
    )
    users = np.arange(len(data.user_ids))
    context = RetrievalContext(config, data, None, folder)
    final, cross_fit = CandidateGenerator(context, users, -1), CrossFit.of(context)
    cross_fit.add_blends(final)
    for split in SPLITS:
        found = (
            cross_fit.candidates() if split == "train" else final.retriever().candidates(data.queries(split))
        )
        rows = prompt_rows(data, titles, split, found.queries, found.lists, options)
        with atomic_file(folder / f"{split}.parquet") as partial:
            pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), partial)


def prompt_rows(
    data: Interactions,
    titles: list[str],
    split: str,
    queries: Queries,
    lists: RankedLists,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return a PROMPTS row for each query, or for those whose label is among the first K."""
    rows = []
    for n, user in enumerate(queries.users.tolist()):
        items = lists.items[n, : options.k]
        label, items = int(queries.labels[n][0]), items[items >= 0].tolist()
        asked = label in items or (options.everybody and split == "test")
        if asked and items:
            shown = [titles[item] for item in queries.histories[n][-SHOWN:]]
            rows.append(
                {
                    "user_id": data.user_ids[user],
                    "split": split,
                    "position": int(queries.position[n]),
                    "messages": chat(shown, [titles[item] for item in items]),
                    "labels": [items.index(label) + 1] if label in items else [],
                    "label_items": [data.item_ids[label]],
                    "label_weights": [1.0],
                    "answer_length": min(10, len(items)),
                    "candidates": [data.item_ids[item] for item in items],
                    "scores": lists.scores[n, : len(items)].tolist(),
                    "titles": [titles[item] for item in items],
                    "history": shown,
                    "tags": [[]] * len(items),
                    "novelty": [0.0] * len(items),
                    "seen": [False] * len(items),
                    "age_days": [None] * len(items),
                    "groups": [],
                    "prompt_version": "",
                }
            )
    return rows


def chat(history: list[str], candidates: list[str]) -> list[dict[str, str]]:
    """Return the messages of a prompt of titles alone."""
    now = datetime(2014, 7, 23, tzinfo=UTC)
    past = [Interaction(title=title, topic="", actions=["purchase"], timestamp=now) for title in history]
    listed = [Candidate(title=title, topic="") for title in candidates]
    return messages(
        PromptInput(profile={}, history=past, interests=[], candidates=listed, now=now, answer_length=10)
    )


def ndcg_of(model: Path, rows: list[PromptRow], folder: Path) -> np.ndarray:
    """Return each prompt's NDCG@10 in the model's order; scores are cached in `folder`."""
    lm, ranker = load(model), Ranker.read(model)
    folder.mkdir(exist_ok=True)
    values = []
    for start in range(0, len(rows), CHUNK):
        part, file = rows[start : start + CHUNK], folder / f"{start}.npz"
        if not file.is_file():
            begun = time.monotonic()
            scores = score_all(lm, [question(lm.tokenizer, ranker.answers, row) for row in part])
            with atomic_file(file) as partial, partial.open("wb") as opened:
                np.savez(opened, scores=np.array([value for row in scores for value in row]))
            per_prompt = (time.monotonic() - begun) / len(part)
            print(
                f"{folder.name}: {start + len(part)} of {len(rows)}, {per_prompt:.2f} s a prompt", flush=True
            )
        flat = np.load(file)["scores"]
        ends = np.cumsum([len(row.candidates) for row in part])
        for row, own in zip(part, np.split(flat, ends[:-1]), strict=True):
            values.append(gain(row, ranker.logits(own, np.array(row.scores)).tolist()))
    return np.array(values)


def gain(row: PromptRow, logits: list[float]) -> float:
    """Return NDCG@10 of one label, the candidates sorted by `logits`."""
    rank = ranking(logits).index(row.labels[0]) + 1 if row.labels else 11
    return 1 / np.log2(rank + 1) if rank <= 10 else 0.0


def line(name: str, values: np.ndarray, order: np.ndarray, share: float, users: int) -> str:
    """Return a row of the table; `values` [asked] are a `share` of the users', the others have none."""
    # Users who were not asked count as zeros in the mean and in its interval.
    everybody = np.zeros(users)
    everybody[: len(values)] = values - order
    bounds = interval(resampled_means(everybody[None], 2000, 0)[0], 0.95)
    delta = f"{everybody.mean():+.4f} [{bounds.low:+.4f}, {bounds.high:+.4f}]"
    return f"| {name} | {values.mean() * share:.4f} | {delta} |"


def measure(data: Interactions, titles: list[str], options: argparse.Namespace, cache: Path) -> list[str]:
    """Run all stages that `cache` does not hold yet, and return the table's rows."""
    prompts = cache / "prompts"
    if not all((prompts / f"{split}.parquet").is_file() for split in SPLITS):
        prompts.mkdir(parents=True, exist_ok=True)
        write_prompts(data, titles, options, prompts)
    if not (cache / "base").is_dir():
        random = RandomWeights(hidden_size=32) if options.smoke else None
        base_model.run(BaseModelConfig(random_weights=random), cache / "base")
    common = {"answers": options.answers, "max_examples": options.examples, "fuse_prompts": options.fuse}
    stages = {"untrained": SftConfig(epochs=0, **common), "SFT": SftConfig(max_length=1024, **common)}
    for name, config in stages.items():
        if not (cache / name).is_dir():
            paths = {"prompts": prompts, "base_model": cache / "base", "model": cache / name}
            made = sft.run(
                config, **paths, curves=cache / f"{name}.html", checkpoints=str(cache / "checkpoints")
            )
            print(f"{name}: {made}", flush=True)
    asked = read_prompts(prompts, "test")
    rows = read_prompts(prompts, "test", options.test)
    all_users = len(data.queries("test")) * len(rows) // len(asked)
    order = np.array([gain(row, row.scores) for row in rows])
    share = len(rows) / all_users
    table = [f"| candidates' order ({options.order}) | {order.mean() * share:.4f} | |"]
    for name in stages:
        values = ndcg_of(cache / name, rows, cache / f"scores of {name}")
        table.append(line(f"+ {options.answers}, {name}", values, order, share, all_users))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder of the stages' results")
    parser.add_argument("--users", type=int, default=0, help="a seeded sample of users; 0 = all")
    parser.add_argument("--order", default="blend", choices=("blend", "blend_with_time"))
    parser.add_argument("--k", type=int, default=20, help="candidates")
    parser.add_argument("--pool", type=int, default=100, help="best items of each model that the blend ranks")
    parser.add_argument("--answers", default="title_likelihood", choices=("title_likelihood", "label_logits"))
    parser.add_argument("--examples", type=int, default=3000, help="train prompts of SFT; 0 = all")
    parser.add_argument("--fuse", type=int, default=450, help="prompts that the weights are learnt from")
    parser.add_argument("--test", type=int, default=0, help="test prompts that are asked; 0 = all")
    parser.add_argument("--everybody", action="store_true", help="also ask where no order can matter")
    parser.add_argument("--smoke", action="store_true", help="a generated log and a random model")
    options = parser.parse_args()
    if not options.smoke and not options.cache:
        parser.error("--cache names the folder of the stages' results")
    if options.smoke:
        options.k, options.pool, options.examples, data = 2, 20, 8, retrieve.synthetic(60)
        titles = [f"item {n}" for n in range(data.num_items)]
    else:
        data = retrieve.read(retrieve.DATA, options.users)
        titles = titles_of(retrieve.beside(retrieve.DATA)[0], data)
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(data, titles, options, options.cache or Path(scratch))
    print("\n".join(["| order | NDCG@10 | difference |", "|---|---:|---:|", *table]))


if __name__ == "__main__":
    main()
