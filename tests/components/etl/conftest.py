"""One Spark session, one small generated log and its tables for all tests of the room."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.etl.config import PromptsConfig, SequencesConfig
from components.shared.spark.config import SparkConfig
from data_contracts import tables
from pipelines.datasets.synthetic.config import SampleConfig
from tests.small_spark import SPARK


@dataclass(frozen=True)
class Prepared:
    """A generated log and what the sequences step made of it."""

    data: Path
    folder: Path

    def table(self, name: str) -> list[dict]:
        return pq.read_table(self.folder / name).to_pylist()


@pytest.fixture(scope="session")
def spark_config() -> SparkConfig:
    return SPARK


@pytest.fixture(scope="session")
def spark():
    from components.shared.spark.session import session

    return session(SPARK, "tests")


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipelines.datasets.synthetic.log import generate

    folder = tmp_path_factory.mktemp("log") / "data"
    generate(SampleConfig(users=60, items=150, items_per_user=9, seed=3), folder)
    return folder


def run(data: Path, folder: Path, **changes):
    """Run the sequences step on `data` into `folder` with changes to a small configuration."""
    from components.etl.sequences.job import run_sequences

    config = SequencesConfig(**{"spark": SPARK, "partitions": 2, **changes})
    outputs = {name: folder / name for name in ("sequences", "catalogue", "users", "exposures", "quarantine")}
    return run_sequences(config, str(data), **outputs, page=folder / "docs.html")


@pytest.fixture(scope="session")
def run_step():
    return run


@pytest.fixture(scope="session")
def prepared(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    run(sample_folder, folder)
    write_candidates(folder)
    return Prepared(sample_folder, folder)


def write_candidates(folder: Path) -> None:
    """Write hand-made candidates: ten neighbours in the catalogue's order, the label among seven of ten."""
    sequences = pq.read_table(folder / "sequences").to_pylist()
    items = sorted(pq.read_table(folder / "catalogue", columns=["item_id"]).column(0).to_pylist())
    rows = []
    for number, user in enumerate(sorted(sequences, key=lambda row: row["user_id"])):
        places = (user["train_end"] - 1, user["train_end"], user["valid_end"])
        for split, position in zip(tables.SPLITS, places, strict=True):
            label, seen = user["item_ids"][position], set(user["item_ids"][: position + 1])
            others = [item for item in items[number:] + items[:number] if item not in seen][:10]
            if (number + position) % 10 < 7:
                others[(number * 7 + position) % 10] = label
            rows.append(
                {
                    "user_id": user["user_id"],
                    "split": split,
                    "position": position,
                    "item_ids": others,
                    "scores": [1.0 - n / 10 for n in range(10)],
                    "fold": number % 2 if split == "train" else -1,
                }
            )
    (folder / "candidates").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=tables.CANDIDATES), folder / "candidates/part-0.parquet")


def prompts(folder: Path, model: Path, out: Path, **changes):
    """Run the prompts step on the tables in `folder` into `out`, with changes to a small configuration."""
    from components.etl.prompts.job import run_prompts

    config = PromptsConfig(**{"spark": SPARK, "valid_prompts": 10, **changes})
    tables_in = {name: folder / name for name in ("sequences", "catalogue", "users", "candidates")}
    return run_prompts(config, **tables_in, base_model=model, prompts=out / "prompts", page=out / "docs.html")


@pytest.fixture(scope="session")
def run_prompts_step():
    return prompts
