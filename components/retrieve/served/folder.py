"""The served folder: a retriever saved, and loaded again without the training data."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.retrieve.blend.features import ItemSide
from components.retrieve.blend.recommender import Blend, Blends
from components.retrieve.blend.sales import Sales
from components.retrieve.blend.trees import Trees
from components.retrieve.candidates.new_items import NewItems
from components.retrieve.candidates.retriever import Retriever
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Histories, Interactions
from components.retrieve.models.co_occurrence.item_to_item import ItemToItem
from components.retrieve.models.co_occurrence.transition_graph import TransitionGraph
from components.retrieve.models.content import Content
from components.retrieve.models.popularity import Popularity, SegmentPopularity
from components.retrieve.ranking import Recommender
from components.retrieve.segments import Segments
from components.retrieve.served import networks
from components.retrieve.served.arrays import ArrayReader, ArrayWriter, Spec
from components.shared.config import from_mapping
from components.shared.errors import DataError
from data_contracts.evaluation import ONLINE

SETTINGS, ITEMS, SEGMENTS = "retriever.json", "items.parquet", "segments.parquet"
FINAL, FOLD = "final", "fold-"
CLASSES = (
    Content, Histories, ItemSide, ItemToItem, Popularity, Sales, SegmentPopularity, TransitionGraph,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Served:
    """A loaded folder: the retriever, what prompts show of items, by item index, segments."""

    retriever: Retriever
    items: pa.Table
    segments: Segments


def save(served: Served, data: Interactions, folder: Path) -> None:
    """Write `served` to `folder`; of `data`, facts of items are read.

    Lists that an online system showed are no model: they are left out, of a fusion too.
    """
    _write(served, data, ArrayWriter(folder))


def save_with_folds(served: Served, folds: Mapping[int, Retriever], data: Interactions, folder: Path) -> None:
    """Write `served` and the retrievers of `folds` below `folder`, the large arrays of both once."""
    final = ArrayWriter(folder / FINAL)
    _write(served, data, final)
    for number, retriever in folds.items():
        writer = ArrayWriter(folder / f"{FOLD}{number}", beside=final)
        _write(dataclasses.replace(served, retriever=retriever), data, writer)


def _write(served: Served, data: Interactions, writer: ArrayWriter) -> None:
    retriever, folder, blends = served.retriever, writer.folder, None
    folder.mkdir(parents=True, exist_ok=True)
    models: dict[str, Spec] = {}
    for name, model in _scorers(retriever).items():
        models[name] = networks.describe(writer, name, model) or writer.add(f"models.{name}", model)
    for model in retriever.models.values():
        if isinstance(model, Blend):
            blends = {
                "side": writer.add("blend.side", model.blends.side),
                "weights": writer.mapping("blend.weights", model.blends.weights),
                "size": model.blends.size,
                "trees": {name: trees.text for name, trees in model.blends.trees.items()},
            }
    content = retriever.new_items.content if retriever.new_items else None
    settings = {
        "config": dataclasses.asdict(_offline(retriever.config)),
        "models": models,
        "blends": blends,
        "fallback": writer.add("fallback", retriever.fallback),
        "is_new": writer.add("items.is_new", retriever.is_new),
        "created": writer.add("items.created", data.created),
        "tags": writer.add("items.tags", data.tags),
        "content": content and writer.add("new_items.content", content),
    }
    writer.write()
    pq.write_table(served.items, folder / ITEMS)
    pq.write_table(pa.Table.from_pandas(served.segments.known, preserve_index=False), folder / SEGMENTS)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")


def load(folder: Path) -> Served:
    """Return what `save` wrote to `folder`. Raises DataError."""
    return _read(folder)[0]


def load_with_folds(folder: Path) -> tuple[Served, dict[int, Retriever]]:
    """Return what `save_with_folds` wrote below `folder`. Raises DataError."""
    served, beside = _read(folder / FINAL)
    numbers = [int(path.name.removeprefix(FOLD)) for path in folder.glob(f"{FOLD}*")]
    return served, {n: _read(folder / f"{FOLD}{n}", beside)[0].retriever for n in numbers}


def _read(folder: Path, beside: ArrayReader | None = None) -> tuple[Served, ArrayReader]:
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        reader = ArrayReader(folder, CLASSES, beside)
        items, segments = pq.read_table(folder / ITEMS), pq.read_table(folder / SEGMENTS).to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{folder}: not a served folder ({error}); run the step retrieve again") from error
    config = from_mapping(RetrieveConfig, settings["config"], str(folder / SETTINGS))
    created, is_new, tags = (reader.get(settings[name]) for name in ("created", "is_new", "tags"))
    models = {
        name: networks.restore(reader, name, spec, config, len(is_new), tags)
        if spec["kind"] == networks.KIND
        else reader.get(spec, config=getattr(config, name, None))
        for name, spec in settings["models"].items()
    }
    if found := settings["blends"]:
        parts = {name: models[name] for name in config.blend.models}
        weights = {name: reader.get(spec) for name, spec in found["weights"].items()}
        trees = {name: Trees(text) for name, text in found["trees"].items()}
        blends = Blends(reader.get(found["side"], models=parts), weights, found["size"], trees)
        models |= {name: Blend(blends, name) for name in weights}
    new_items = None
    if settings["content"]:
        content = reader.get(settings["content"], config=config.content)
        new_items = NewItems(content, is_new, created)
    retriever = Retriever(config, models, reader.get(settings["fallback"]), is_new, new_items)
    return Served(retriever, items, Segments(segments)), reader


def _scorers(retriever: Retriever) -> dict[str, Recommender]:
    """Return all models that are saved by themselves, those within blends included."""
    found: dict[str, Recommender] = {}
    for name, model in retriever.models.items():
        if isinstance(model, Blend):
            found |= model.blends.side.models
        elif name != ONLINE:
            found[name] = model
    return found


def _offline(config: RetrieveConfig) -> RetrieveConfig:
    """Return `config` with candidates from models alone; from popularity where there is none."""
    sources = [name for name in config.sources if name != ONLINE]
    return dataclasses.replace(config, candidates_from="+".join(sources) or "popularity")
