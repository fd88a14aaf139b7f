"""Prompts of Amazon Beauty: a blend without networks names the candidates, LightGBM another order of them."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import retrieve

from components.retrieve.blend.config import BlendConfig
from components.retrieve.blend.trees import BEST
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.interactions import Interactions, Queries
from components.retrieve.model_config import ContentConfig
from components.retrieve.models.popularity import item_counts
from components.retrieve.ranking import RankedLists
from components.shared.artifacts.outputs import atomic_file
from components.shared.prompting.render import Candidate, Interaction, PromptInput, messages, shorten
from data_contracts.tables import PROMPTS, SPLITS

MODELS = ("item_to_item", "directed", "transition_graph", "content")
TREES = "trees"
"""Folder of the validation and test prompts whose scores are LightGBM's."""
SHOWN = 8
"""Items of the history in a prompt."""


def write_prompts(
    data: Interactions, order: str, sizes: tuple[int, int], everybody: bool, folder: Path
) -> None:
    """Write each split's prompts, the first of the blend `order` as candidates.

    `sizes` are the candidates of a prompt and the items that each model adds to the pool. `folder`/TREES
    gets validation and test prompts with the scores of boosted trees that were learnt from the same facts.
    """
    count, pool = sizes
    config = dataclasses.replace(
        retrieve.beauty_config(1),
        candidates_from=order,
        num_candidates=count,
        ranking_depth=count,
        folds=4,
        train_positions=8,
        blend=BlendConfig(models=MODELS, pool=pool, learner="lightgbm"),
        content=ContentConfig(by="text"),
    )
    users = np.arange(len(data.user_ids))
    context = RetrievalContext(config, data, None, folder)
    final, cross_fit = CandidateGenerator(context, users, -1), CrossFit.of(context)
    cross_fit.add_blends(final)
    by_trees = {
        split: final.fit(order)[0].recommend(data.queries(split), BEST)
        for split in SPLITS
        if split != "train"
    }
    for generator in (*cross_fit.generators.values(), final):
        generator.fit(order)[0].blends.trees = {}  # the logit's order is that of the prompts
    for split in SPLITS:
        found = (
            cross_fit.candidates() if split == "train" else final.retriever().candidates(data.queries(split))
        )
        first = RankedLists(found.lists.items[:, :count], found.lists.scores[:, :count])
        asked = prompt_rows(data, split, found.queries, first, everybody and split == "test")
        _write(folder / f"{split}.parquet", list(asked.values()))
        if split in by_trees:
            (folder / TREES).mkdir(exist_ok=True)
            rows = [_rescored(row, data, by_trees[split], n) for n, row in asked.items()]
            _write(folder / TREES / f"{split}.parquet", rows)


def _rescored(row: dict[str, Any], data: Interactions, lists: RankedLists, number: int) -> dict[str, Any]:
    """Return the `row` of a query with the scores that `lists` give its candidates."""
    scores = {
        data.item_ids[item]: score
        for item, score in zip(lists.items[number].tolist(), lists.scores[number].tolist(), strict=True)
        if item >= 0
    }
    return {**row, "scores": [scores[item] for item in row["candidates"]]}


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_file(file) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), partial)


def prompt_rows(
    data: Interactions, split: str, queries: Queries, lists: RankedLists, everybody: bool
) -> dict[int, dict[str, Any]]:
    """Return PROMPTS rows by their query's number, without `everybody` only those with a label listed."""
    titles = [
        shorten(text or item, 60) for text, item in zip(data.texts.to_pylist(), data.item_ids, strict=True)
    ]
    counts = item_counts(data.train(), data.num_items)
    bits = -np.log2(counts.clip(0.5) / counts.sum())
    tags = [
        [str(tag) for tag in data.tags.items[start:end]]
        for start, end in zip(data.tags.start, data.tags.end, strict=True)
    ]
    rows = {}
    for n, user in enumerate(queries.users.tolist()):
        items, label = lists.items[n][lists.items[n] >= 0].tolist(), int(queries.labels[n][0])
        if not items or not (label in items or everybody):
            continue
        shown = [titles[item] for item in queries.histories[n][-SHOWN:]]
        rows[n] = {
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
            "tags": [tags[item] for item in items],
            "novelty": bits[items].tolist(),
            "seen": [False] * len(items),
            "age_days": [None] * len(items),
            "groups": [],
        }
    return rows


def chat(history: list[str], candidates: list[str]) -> list[dict[str, str]]:
    """Return the messages of a prompt of titles alone."""
    now = datetime(2014, 7, 23, tzinfo=UTC)
    past = [Interaction(title=title, topic="", actions=["purchase"], timestamp=now) for title in history]
    listed = [Candidate(title=title, topic="") for title in candidates]
    return messages(
        PromptInput(profile={}, history=past, interests=[], candidates=listed, now=now, answer_length=10)
    )
