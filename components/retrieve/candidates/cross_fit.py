"""Generators for train prompts, each trained without its prompts' users, and the blends learnt from them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.retrieve.blend import recommender as blend
from components.retrieve.blend import sales
from components.retrieve.blend.config import BLENDS, TEACHER
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.candidates.retriever import Candidates, Retriever, cross_fitted
from components.retrieve.interactions import Ints, Queries
from components.retrieve.models.factory import user_folds
from components.shared.logs import logger

log = logger("retrieve")


@dataclass(frozen=True)
class CrossFit:
    """Train prompts, their folds, and per fold the generator without its users."""

    context: RetrievalContext
    queries: Queries
    folds: Ints
    generators: dict[int, CandidateGenerator]

    @classmethod
    def of(cls, context: RetrievalContext) -> "CrossFit":
        """Return the generators, nothing of them fitted yet."""
        config, data = context.config, context.data
        queries = data.train_queries(config.train_positions)
        fold_of_user = user_folds(data.user_ids, config.folds, config.seed)
        folds = fold_of_user[queries.users]
        generators = {
            fold: CandidateGenerator(context, np.flatnonzero(fold_of_user != fold), fold)
            for fold in np.unique(folds).tolist()
        }
        return cls(context, queries, folds, generators)

    def retrievers(self) -> dict[int, Retriever]:
        """Return per fold what names candidates for its users, and any teacher."""
        names = [TEACHER] if self.context.config.blend.learner == TEACHER else []
        return {fold: generator.retriever(*names) for fold, generator in self.generators.items()}

    def candidates(self) -> Candidates:
        """Return the candidates of the train prompts."""
        return cross_fitted(self.retrievers(), self.queries, self.folds)

    def add_blends(self, final: CandidateGenerator) -> None:
        """Learn the blends' weights.

        A fold's are learnt from the other folds' prompts, the final ones from all. The features of a prompt
        come from models and counts that were fitted without its user.
        """
        started = time.monotonic()
        config = self.context.config.blend
        sides = [generator.item_side() for generator in self.generators.values()]
        examples = [
            blend.examples(side, self.queries.take(rows), config.pool)
            for side, rows in zip(sides, self._sample(), strict=True)
        ]
        final_side = final.item_side()
        generators, sides = [*self.generators.values(), final], [*sides, final_side]
        features = len(final_side.names)
        counts = dict(zip(BLENDS, (features - len(sales.NAMES), features), strict=True))
        learnt = {name: blend.learn(examples, count, config.l2) for name, count in counts.items()}
        grown = {}
        if config.learner == "lightgbm":
            grown = {name: blend.learn_trees(examples, learnt[name], config.seed) for name in BLENDS}
        elif config.learner == TEACHER:
            of_source = learnt[self.context.config.candidates_from]
            learnt[TEACHER] = of_source[:-1]  # train prompts alone have a teacher
            grown[TEACHER] = blend.learn_trees(examples, learnt[TEACHER], config.seed)
        seconds = time.monotonic() - started
        for number, (generator, side) in enumerate(zip(generators, sides, strict=True)):
            weights = {name: own[number] for name, own in learnt.items() if number < len(own)}
            trees = {name: best for name, own in grown.items() if name in weights and (best := own[number])}
            generator.add_blends(side, weights, trees, seconds)
        for name in BLENDS:
            pairs = zip(final_side.names, learnt[name][-1], strict=False)
            log.info("%s: %s", name, ", ".join(f"{feature} {weight:.3g}" for feature, weight in pairs))

    def _sample(self) -> Sequence[Ints]:
        """Return the rows of each fold's prompts that weights are learnt from, a seeded sample."""
        config, count = self.context.config.blend, len(self.queries)
        chosen = np.arange(count)
        if count > config.prompts:
            chosen = np.random.default_rng(config.seed).choice(count, config.prompts, replace=False)
        return [np.sort(chosen[self.folds[chosen] == fold]) for fold in self.generators]
