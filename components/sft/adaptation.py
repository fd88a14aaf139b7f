"""Text for the adaptation to the log: train histories' titles, as title likelihood reads them."""

import functools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.sft.config import AdaptationConfig
from components.sft.examples import IGNORED
from components.shared.language_model.scoring import HEADER
from components.shared.prompting.render import shown_title
from components.shared.prompting.settings import PromptSettings

FOLDER = "adaptation"
"""Where the adaptation's checkpoints lie among those of the step."""


@dataclass(frozen=True)
class Histories:
    """The tables SEQUENCES and CATALOGUE, and what prompts show of a title."""

    sequences: Path
    catalogue: Path
    prompt: PromptSettings

    def rows(self, tokenizer: Any, config: AdaptationConfig, seed: int) -> list[dict[str, list[int]]]:
        """Return `input_ids` and `labels` of packed rows, `config.tokens` together at most.

        Users come in a seeded order, of each the items of its train part.
        """
        users = ds.dataset(self.sequences).to_table(columns=["user_id", "item_ids", "train_end"])
        # Not the table itself: sorted, its lists would be one array, whose texts end at 2 GiB.
        by_id = pc.sort_indices(users["user_id"]).to_numpy()
        table = ds.dataset(self.catalogue).to_table(columns=["item_id", "title", "brand"])
        items = {item["item_id"]: item for item in table.to_pylist()}

        @functools.cache
        def line(item: str) -> list[int]:
            return tokenizer(f"{shown_title(items[item], self.prompt)}\n", add_special_tokens=False)[
                "input_ids"
            ]

        header = tokenizer(HEADER, add_special_tokens=False)["input_ids"]
        ids: list[int] = []
        labels: list[int] = []
        for number in random.Random(seed).sample(range(len(users)), len(users)):
            if len(ids) >= config.tokens:
                break
            user = int(by_id[number])
            met = users["item_ids"][user].as_py()[: users["train_end"][user].as_py()]
            told = [token for item in met for token in line(item)]
            ids += [*header, *told]
            labels += [*[IGNORED] * len(header), *told]
        rows = [
            # Nothing comes before a row's first token.
            {"input_ids": ids[begin:end], "labels": [IGNORED, *labels[begin + 1 : end]]}
            for begin in range(0, min(len(ids), config.tokens), config.row_tokens)
            for end in [min(begin + config.row_tokens, config.tokens)]
        ]
        # A row of one token, or of a header alone, teaches nothing.
        return [row for row in rows if any(label != IGNORED for label in row["labels"])]
