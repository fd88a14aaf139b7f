"""Models trained on some of the users, and the candidates made of their rankings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve.blend.counts import co_occurrences
from components.retrieve.blend.features import ItemSide
from components.retrieve.blend.logit import Floats
from components.retrieve.blend.recommender import Blend, Blends
from components.retrieve.blend.sales import Sales
from components.retrieve.blend.trees import Trees
from components.retrieve.candidates.exposures import Exposures
from components.retrieve.candidates.new_items import NewItems
from components.retrieve.candidates.retriever import Retriever
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Interactions, Ints
from components.retrieve.models import factory
from components.retrieve.models.popularity import SegmentPopularity, item_counts
from components.retrieve.ranking import Recommender, Scorer
from data_contracts.evaluation import ONLINE


@dataclass(frozen=True)
class RetrievalContext:
    """What all generators of a run share; exposures if they are used."""

    config: RetrieveConfig
    data: Interactions
    exposures: Exposures | None
    checkpoint_dir: Path


class CandidateGenerator:
    """Models trained on the train part of `users`; `fold` is held out (-1: none)."""

    def __init__(self, context: RetrievalContext, users: Ints, fold: int) -> None:
        self.context, self.config, self.fold = context, context.config, fold
        data = context.data
        self.users = users
        self.train_part, valid = data.train(users), data.queries("valid")
        self.valid = valid.take(np.isin(valid.users, users))
        self.fallback = SegmentPopularity(self.train_part, data.segments_of(users), data.num_items)
        self.is_new = item_counts(self.train_part, data.num_items) == 0
        self.new_items: NewItems | None = None
        if self.config.new_item_slots and self.is_new.any():
            content = factory.content(self.config, data, self.train_part, context.checkpoint_dir)
            self.new_items = NewItems(content, self.is_new, data.created)
        self._fitted: dict[str, tuple[Recommender, float]] = {}
        if context.exposures:
            self._fitted[ONLINE] = context.exposures, 0.0

    def fit(self, name: str) -> tuple[Recommender, float]:
        """Return model `name`, trained at the first call, and the seconds that this took."""
        if name not in self._fitted:
            parts = (self.train_part, self.valid, self.fold, self.context.checkpoint_dir)
            recommender, log = factory.fit(name, self.config, self.context.data, *parts)
            self._fitted[name] = recommender, log.seconds
        return self._fitted[name]

    def item_side(self) -> ItemSide:
        """Return what the blend's features need of these users' train part."""
        config, data, train = self.config, self.context.data, self.train_part
        models = {name: self.fit(name)[0] for name in config.blend.models}
        return ItemSide(
            models={name: model for name, model in models.items() if isinstance(model, Scorer)},
            vectors=factory.text_vectors(config, data, self.context.checkpoint_dir).numpy(),
            brands=data.brands,
            categories=data.categories,
            counts=co_occurrences(train, data.num_items),
            popularity=item_counts(train, data.num_items),
            sales=Sales.of(train.flat()[1], data.train_times(self.users)),
        )

    def add_blends(
        self, side: ItemSide, weights: Mapping[str, Floats], trees: Mapping[str, Trees], seconds: float
    ) -> None:
        """Let `fit` return a blend per name in `weights`; learning took `seconds`."""
        blends = Blends(side, weights, self.config.blend.pool, trees)
        self._fitted |= {name: (Blend(blends, name), seconds) for name in weights}

    def retriever(self, *names: str) -> Retriever:
        """Return what these models and the candidates' need to answer."""
        models = {name: self.fit(name)[0] for name in (*names, *self.config.sources)}
        return Retriever(self.config, models, self.fallback, self.is_new, self.new_items)
