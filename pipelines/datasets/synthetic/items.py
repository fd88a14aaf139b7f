"""The generated catalogue: items grouped by topic, subtopic and style, with readable titles."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from components.etl.config import parse_time
from data_contracts import tables
from pipelines.datasets.synthetic.config import SampleConfig

DAY_US = 86_400_000_000
_WORDS = yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))
TOPICS, STYLES, FORMS = _WORDS["topics"], _WORDS["styles"], _WORDS["forms"]
NAMES = list(TOPICS)
SUBTOPICS = 3  # of each topic


class SampleItems:
    """Items sorted by (topic, style, subtopic); within such a group the first are the most popular."""

    def __init__(self, config: SampleConfig) -> None:
        rng = np.random.default_rng([config.seed, 0])
        share = rng.dirichlet(np.full(len(NAMES), 8.0))
        topic = np.sort(rng.choice(len(NAMES), config.items, p=share))
        subtopic = rng.integers(0, SUBTOPICS, config.items)
        style = rng.integers(0, len(STYLES), config.items)
        self._group = (topic * len(STYLES) + style) * SUBTOPICS + subtopic
        order = np.argsort(self._group, kind="stable")
        self._group = self._group[order]
        self.topic, self.subtopic, self.style = topic, subtopic[order], style[order]
        self.ids = ids("i", rng.permutation(config.items), config.items)
        start = start_us(config)
        self._created = start - rng.integers(0, 730 * DAY_US, config.items)
        self._rng = rng
        groups = len(NAMES) * SUBTOPICS * len(STYLES)
        self._starts = np.searchsorted(self._group, np.arange(groups + 1))
        self._topic_starts = np.searchsorted(topic, np.arange(len(NAMES) + 1))

    def pick(
        self, topic: np.ndarray, subtopic: np.ndarray, style: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return an item index per wish; an empty group falls back to topic and style, topic, then all."""
        group = (topic * len(STYLES) + style) * SUBTOPICS + subtopic
        low, high = self._starts[group], self._starts[group + 1]
        empty = low == high
        wider = group - subtopic  # every subtopic of this topic and style
        low, high = (
            np.where(empty, self._starts[wider], low),
            np.where(empty, self._starts[wider + SUBTOPICS], high),
        )
        empty = low == high
        low, high = (
            np.where(empty, self._topic_starts[topic], low),
            np.where(empty, self._topic_starts[topic + 1], high),
        )
        empty = low == high
        low, high = np.where(empty, 0, low), np.where(empty, len(self.topic), high)
        return low + ((high - low) * rng.random(len(topic)) ** 2.0).astype(np.int64)

    def table(self) -> pa.Table:
        """Return the items table."""
        rng, count = self._rng, len(self.topic)
        subtopics = [list(TOPICS[name]) for name in NAMES]
        objects = [[TOPICS[name][sub] for sub in TOPICS[name]] for name in NAMES]
        number = rng.integers(0, 1_000, count)
        form = rng.integers(0, len(FORMS), count)
        titles, tags = [], []
        for t, s, style, n, f in zip(self.topic, self.subtopic, self.style, number, form, strict=True):
            titles.append(f"{STYLES[style]} {objects[t][s][n % len(objects[t][s])]} {FORMS[f]}")
            tags.append([NAMES[t], subtopics[t][s]])
        return pa.table(
            {
                "item_id": pa.array(self.ids),
                "title": titles,
                "tags": tags,
                "categories": pa.array([[name] for name in np.array(NAMES)[self.topic]]),
                "brand": pa.nulls(count, pa.string()),
                "created_at": pa.array(self._created).cast(pa.timestamp("us")).cast(tables.TIMESTAMP),
            },
            schema=tables.ITEMS,
        )


def ids(prefix: str, numbers: np.ndarray, count: int) -> np.ndarray:
    """Return an id per number, all of one width, so that they sort as the numbers do."""
    width = len(str(count - 1))
    return np.array([f"{prefix}{n:0{width}d}" for n in numbers], dtype=object)


def start_us(config: SampleConfig) -> int:
    """Return the start of the log, µs since the epoch."""
    return int(parse_time("start", config.start).timestamp()) * 1_000_000
