"""Candidates and rankings of a partition of users: one function, here and in Spark's executors."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.retrieve.candidates.retriever import Candidates, Retriever, cross_fitted
from components.retrieve.figures import Sums, accuracy_sums, candidate_sums
from components.retrieve.interactions import Sequences
from components.retrieve.models.factory import user_folds
from components.retrieve.tables import RowMaker
from data_contracts.evaluation import CANDIDATE_ORDER, ONLINE
from data_contracts.tables import CANDIDATES, RANKINGS

EVALUATED = ("valid", "test")
PARTITION = 2048
"""Users of a partition: what is held of them at a time."""


@dataclass(frozen=True)
class Answers:
    """Rows of CANDIDATES and RANKINGS, and sums of their figures."""

    candidates: pa.Table
    rankings: pa.Table
    sums: Sums


@dataclass(frozen=True)
class Answering:
    """The item side: a retriever of all users, and by fold one without its users.

    `ranked` are the models with rankings.
    """

    final: Retriever
    folds: Mapping[int, Retriever]
    item_ids: pa.Array
    ranked: tuple[str, ...]

    def answers(self, part: Sequences) -> Answers:
        """Return the answers for the users of `part`."""
        config, make = self.final.config, RowMaker(part, self.item_ids)
        wanted, sums = config.num_candidates, Sums()
        candidates, rankings = [], []

        def add(split: str, found: Candidates, folds: np.ndarray | int) -> None:
            listed = (found.queries, found.lists, wanted)
            rows = make.rows(CANDIDATES, split, *listed, fold=folds, teacher=found.teacher)
            candidates.append(rows)
            sums.update(candidate_sums(split, found, wanted, config.ceilings))

        queries = part.train_queries(config.train_positions)
        folds = user_folds(part.user_ids, config.folds, config.seed)[queries.users - part.first_user]
        add("train", cross_fitted(self.folds, queries, folds), folds)
        asked = {split: part.queries(split) for split in EVALUATED}
        # A split at a time: blends share one pass over it, and a model with a row may name candidates, too.
        listed = {split: self.final.recommend(queries, *self.ranked) for split, queries in asked.items()}
        for name in self.ranked:
            for split, queries in asked.items():
                lists = listed[split][name]
                if name != ONLINE:  # shown lists are as long as they were shown
                    lists = self.final.fill(lists, queries)
                rankings.append(make.rows(RANKINGS, split, queries, lists, config.ranking_depth, name))
                sums.update(accuracy_sums(split, name, lists, queries))
        for split, queries in asked.items():
            found = self.final.candidates(queries, listed[split])
            add(split, found, -1)
            sums.update(accuracy_sums(split, CANDIDATE_ORDER, found.lists, queries))
        return Answers(pa.concat_tables(candidates), pa.concat_tables(rankings), sums)
