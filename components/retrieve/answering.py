"""Models trained on some of the users, and what they answer: rankings, candidates, and who fills the gaps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve import models
from components.retrieve.cold import SegmentPopularity
from components.retrieve.config import ONLINE, RetrieveConfig
from components.retrieve.counts import item_counts
from components.retrieve.exposures import Exposures
from components.retrieve.interactions import Examples, Interactions, Ints
from components.retrieve.new_items import Newcomers, with_newcomers
from components.retrieve.ranking import Ranked, Recommender, fuse
from components.retrieve.training import TrainingLog


@dataclass(frozen=True)
class Log:
    """What is known of users and items: interactions, each user's segment, lists from outside if wanted."""

    data: Interactions
    segments: Ints
    exposures: Exposures | None = None


class Answering:
    """Models trained on the train part of `users` alone; `fold` is the one held out, -1 for none."""

    def __init__(
        self, config: RetrieveConfig, log: Log, users: Ints, fold: int, place: Path | None = None
    ) -> None:
        self.config, self.log, self.fold, self.place = config, log, fold, place
        data = log.data
        self.train_part = data.train(users)
        valid = data.examples("valid")
        self.valid = valid.take(np.isin(valid.users, users))
        self.fallback = SegmentPopularity(self.train_part, users, log.segments, data.num_items)
        self.evidence: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.newcomers: Newcomers | None = None
        if config.new_item_slots:
            content = models.content(config, data, self.train_part, place)
            self.newcomers = Newcomers(content, item_counts(self.train_part, data.num_items) == 0)

    def by(self, name: str, asked: dict[str, Examples], depth: int) -> dict[str, Ranked]:
        """Train model `name` and return its lists; one where it knows nothing is empty."""
        recommender: Recommender
        if name == ONLINE and self.log.exposures:
            recommender, told = self.log.exposures, TrainingLog()
        else:
            parts = (self.train_part, self.valid, self.fold, self.place)
            recommender, told = models.fit(name, self.config, self.log.data, *parts)
        self.evidence[name], self.seconds[name] = recommender.evidence, told.seconds
        return {split: recommender.answer(questions, depth) for split, questions in asked.items()}

    def filled(self, ranked: Ranked, asked: Examples) -> Ranked:
        """Return `ranked` with what is popular in the asker's segment in the place of each empty list."""
        rows = np.flatnonzero(ranked.empty)
        if not len(rows):
            return ranked
        instead = self.fallback.answer(asked.take(rows), ranked.items.shape[1])
        items, scores = ranked.items.copy(), ranked.scores.copy()
        items[rows], scores[rows] = instead.items, instead.scores
        return Ranked(items, scores)

    def candidates(self, parts: dict[str, Ranked], asked: Examples) -> Ranked:
        """Blend the lists of the candidates' models, fill the empty ones, make room for new items."""
        config, names = self.config, self.config.sources
        ranked = parts[names[0]]
        if len(names) > 1:
            votes = [self.evidence[name] for name in names]
            ranked = fuse([parts[name] for name in names], votes, ranked.items.shape[1])
        filled = self.filled(ranked, asked)
        if not self.newcomers:
            return filled
        slots, wanted = config.new_item_slots, config.num_candidates
        return with_newcomers(filled, asked, self.log.data, self.newcomers, slots, wanted)
