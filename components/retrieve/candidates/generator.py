"""Models trained on some of the users, and what they answer: rankings, candidates, and who fills the gaps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve.candidates.cold_start import SegmentPopularity
from components.retrieve.candidates.exposures import Exposures
from components.retrieve.candidates.new_items import Newcomers, with_newcomers
from components.retrieve.config import ONLINE, RetrieveConfig
from components.retrieve.interactions import Examples, Interactions, Ints
from components.retrieve.models import factory as models
from components.retrieve.models.counts import item_counts
from components.retrieve.networks.training import TrainingLog
from components.retrieve.ranking import Ranked, Recommender, fuse


@dataclass(frozen=True)
class RetrievalContext:
    """What is known of users and items: interactions, each user's segment, lists from outside if wanted."""

    data: Interactions
    segments: Ints
    exposures: Exposures | None = None


@dataclass(frozen=True)
class Candidates:
    """Candidates, and how many of those wanted are filled in by popularity, and how many are new."""

    ranked: Ranked
    filled: int
    new: int


class CandidateGenerator:
    """Models trained on the train part of `users` alone; `fold` is the one held out, -1 for none."""

    def __init__(
        self,
        config: RetrieveConfig,
        known: RetrievalContext,
        users: Ints,
        fold: int,
        place: Path | None = None,
    ) -> None:
        self.config, self.known, self.fold, self.place = config, known, fold, place
        data = known.data
        self.train_part = data.train(users)
        valid = data.examples("valid")
        self.valid = valid.take(np.isin(valid.users, users))
        self.fallback = SegmentPopularity(self.train_part, users, known.segments, data.num_items)
        self.evidence: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.new = item_counts(self.train_part, data.num_items) == 0
        self.newcomers: Newcomers | None = None
        if config.new_item_slots and self.new.any():
            self.newcomers = Newcomers(data, models.content(config, data, self.train_part, place), self.new)

    def fit_predict(self, name: str, asked: dict[str, Examples], depth: int) -> dict[str, Ranked]:
        """Train model `name` and return its lists; one where it knows nothing is empty."""
        recommender: Recommender
        if name == ONLINE and self.known.exposures:
            recommender, told = self.known.exposures, TrainingLog()
        else:
            parts = (self.train_part, self.valid, self.fold, self.place)
            recommender, told = models.fit(name, self.config, self.known.data, *parts)
        self.evidence[name], self.seconds[name] = recommender.evidence, told.seconds
        return {split: recommender.answer(questions, depth) for split, questions in asked.items()}

    def filled(self, ranked: Ranked, asked: Examples) -> Ranked:
        """Return `ranked`, what is popular in the asker's segment behind lists too short for a prompt."""
        rows = np.flatnonzero((ranked.items[:, : self.config.num_candidates] < 0).any(1))
        if not len(rows):
            return ranked
        popular = self.fallback.answer(asked.take(rows), ranked.items.shape[1])
        items, scores = ranked.items.copy(), ranked.scores.copy()
        for number, row in enumerate(rows):
            listed = items[row][items[row] >= 0]
            more = popular.items[number][~np.isin(popular.items[number], [*listed, -1])]
            more = more[: items.shape[1] - len(listed)]
            level = scores[row][len(listed) - 1] if len(listed) else popular.scores[number][: len(more)]
            items[row, len(listed) : len(listed) + len(more)] = more
            scores[row, len(listed) : len(listed) + len(more)] = level
        return Ranked(items, scores)

    def candidates(self, parts: dict[str, Ranked], asked: Examples) -> Candidates:
        """Blend the lists of the candidates' models, fill the short ones, make room for new items."""
        config, names = self.config, self.config.sources
        ranked = parts[names[0]]
        if len(names) > 1:
            votes = [self.evidence[name] for name in names]
            ranked = fuse([parts[name] for name in names], votes, ranked.items.shape[1])
        filled = self.filled(ranked, asked)
        slots, wanted = config.new_item_slots, config.num_candidates
        added = (filled.items[:, :wanted] >= 0).sum() - (ranked.items[:, :wanted] >= 0).sum()
        if self.newcomers:
            filled = with_newcomers(filled, asked, self.newcomers, slots, wanted)
        items = filled.items[:, :wanted]
        return Candidates(filled, int(added), int((self.new[items] & (items >= 0)).sum()))
