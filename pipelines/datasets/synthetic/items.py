"""The generated catalogue: items grouped by topic, subtopic and style, with readable titles."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from components.shared.times import parse_time
from data_contracts import tables
from pipelines.datasets.synthetic.config import SampleConfig

DAY_US = 86_400_000_000
_WORDS = yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))
TOPICS, STYLES, FORMS = _WORDS["topics"], list(_WORDS["styles"].values()), _WORDS["forms"]
NAMES = list(TOPICS)
SUBTOPICS = 3  # of each topic
TOPIC_GROUPS = len(STYLES) * SUBTOPICS


class SampleItems:
    """Items sorted by (topic, style, subtopic), within a group the most popular first."""

    def __init__(self, config: SampleConfig) -> None:
        rng = np.random.default_rng([config.seed, 0])
        share = rng.dirichlet(np.full(len(NAMES), 8.0))
        self.topic = np.sort(rng.choice(len(NAMES), config.items, p=share))
        subtopic = rng.integers(0, SUBTOPICS, config.items)
        style = rng.integers(0, len(STYLES), config.items)
        group = _group(self.topic, style, subtopic)
        order = np.argsort(group, kind="stable")
        self.style = style[order]
        self.form = rng.integers(0, len(FORMS), config.items)
        # Some are launched during the log: few have met them, only their titles say what they are.
        since_start = rng.integers(-730 * DAY_US, 0, config.items)
        launches = rng.random(config.items) < config.new_item_share
        launch = rng.integers(0, config.days * DAY_US, config.items)
        self.created = start_us(config) + np.where(launches, launch, since_start)
        self.ids = ids("i", rng.permutation(config.items), config.items)
        self._starts = np.searchsorted(group[order], np.arange(len(NAMES) * TOPIC_GROUPS + 1))
        self.table = self._table(config, subtopic[order], rng)

    def pick(
        self, topic: np.ndarray, subtopic: np.ndarray, style: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return an item index per wish; empty groups widen to (topic, style), topic, then all."""
        low, high = np.zeros_like(topic), np.full_like(topic, len(self.topic))
        for first, groups in (
            (_group(topic, 0, 0), TOPIC_GROUPS),
            (_group(topic, style, 0), SUBTOPICS),
            (_group(topic, style, subtopic), 1),
        ):
            start, stop = self._starts[first], self._starts[first + groups]
            low, high = np.where(start < stop, (start, stop), (low, high))
        return low + ((high - low) * rng.random(len(topic)) ** 2.0).astype(np.int64)

    def _table(self, config: SampleConfig, subtopic: np.ndarray, rng: np.random.Generator) -> pa.Table:
        number, word = rng.integers(0, 1_000, (2, config.items))
        titles, tags = [], []
        for t, s, style, n, w, f in zip(
            self.topic, subtopic, self.style, number, word, self.form, strict=True
        ):
            name, objects = list(TOPICS[NAMES[t]].items())[s]
            words = STYLES[style]
            titles.append(f"{words[w % len(words)]} {objects[n % len(objects)]} {FORMS[f]}")
            tags.append([NAMES[t], name])
        if config.shuffle_titles:
            titles = np.random.default_rng([config.seed, 2]).permutation(titles).tolist()
        return pa.table(
            {
                "item_id": pa.array(self.ids),
                "title": titles,
                "tags": tags,
                "categories": [[name] for name, _ in tags],
                "brand": pa.nulls(config.items, pa.string()),
                "description": pa.nulls(config.items, pa.string()),
                "created_at": pa.array(self.created).cast(tables.TIMESTAMP),
            },
            schema=tables.ITEMS,
        )


def _group(topic: np.ndarray, style: np.ndarray | int, subtopic: np.ndarray | int) -> np.ndarray:
    return topic * TOPIC_GROUPS + style * SUBTOPICS + subtopic


def ids(prefix: str, numbers: np.ndarray, count: int) -> np.ndarray:
    """Return an id per number, of equal width, so they sort as the numbers do."""
    width = len(str(count - 1))
    return np.array([f"{prefix}{n:0{width}d}" for n in numbers], dtype=object)


def start_us(config: SampleConfig) -> int:
    """Return the start of the log, µs since the epoch."""
    return int(parse_time("start", config.start).timestamp()) * 1_000_000
