"""The prompts step: sequences, candidates and catalogue to the table that training and evaluation read."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from components.etl.config import PromptsConfig
from components.etl.contracts import check
from components.etl.data_docs import DataDocs, data_docs
from components.etl.prompts import leakage
from components.etl.prompts.cases import count_train, label_cases, sample_cases
from components.etl.prompts.files import RENDERED, SplitFile, first_of, write_split
from components.etl.prompts.leakage import row_leak
from components.etl.prompts.rows import CatalogueStatistics, render
from components.etl.prompts.tokens import token_counter, within_tasks
from components.etl.sequences.views import candidates_view, prompts_view
from components.etl.spark.parts import read_by_tasks, read_parts, write_parts, written_by_tasks
from components.etl.spark.session import readable, session
from components.shared.artifacts.outputs import atomic_folder
from components.shared.errors import ConfigError, DataError, LeakageError
from components.shared.logs import logger
from data_contracts import tables

INPUTS = {
    "sequences": tables.SEQUENCES,
    "catalogue": tables.CATALOGUE,
    "users": tables.USERS,
    "candidates": tables.CANDIDATES,
}
PROFILE = ("age", "gender", "city_tier", "interests")
RENDER_ROWS = 256  # prompts rendered at a time: a case holds its user's whole history

log = logger("prompts")


@dataclass(frozen=True, kw_only=True)
class PromptsInputs:
    """Folders of Parquet or s3:// URIs (schemas in data_contracts.tables) and the base model's folder."""

    sequences: str | Path
    catalogue: str | Path
    users: str | Path
    candidates: str | Path
    base_model: Path


@dataclass(frozen=True, kw_only=True)
class PromptsOutputs:
    """`prompts`: a folder with train.parquet, valid.parquet and test.parquet; `data_docs`: an HTML file.

    `staging` is an s3:// URI for rows on their way, where executors do not share this machine's disk.
    """

    prompts: Path
    data_docs: Path
    staging: str | None = None


@dataclass(frozen=True, kw_only=True)
class PromptsReport:
    """Counts of prompts and of what was left out.

    `train_unretrieved` is the number of training cases whose label is not among the candidates, of
    `train_cases`; `test_recall` is the share of test prompts whose first label is among them: the ceiling.
    """

    train: int
    valid: int
    test: int
    train_cases: int
    train_unretrieved: int
    test_recall: float
    history_cut: int


def run_prompts(config: PromptsConfig, inputs: PromptsInputs, out: PromptsOutputs) -> PromptsReport:
    """Render the prompts of all three splits, check contract and leaks, and write them whole or not at all.

    Raises:
        DataError: an input table is missing or names items or users that the others lack.
        ContractError, LeakageError: the tables are not fit to be used.
        ConfigError: a prompt does not fit the token budget.
    """
    spark = session(config.spark, "prompts")
    token_counter(str(inputs.base_model))  # a bad model folder should fail here, not inside a task
    with (
        readable("the inputs of the prompts step"),
        data_docs(out.data_docs, "Prompts") as docs,
        tempfile.TemporaryDirectory(prefix="recllm-") as scratch,
    ):
        frames = {name: read_parts(spark, getattr(inputs, name), schema) for name, schema in INPUTS.items()}
        check(docs, "candidates", candidates_view(frames["candidates"]))
        leakage.check_folds(frames["candidates"])
        leakage.check_train_counts(frames["catalogue"], frames["sequences"])
        cases = label_cases(config, frames["sequences"], frames["candidates"])
        train_cases, unretrieved = count_train(cases)
        staged = Path(scratch)
        _stage(config, frames, cases, inputs.base_model, staged, out.staging)
        with atomic_folder(out.prompts) as folder:
            written = {split: write_split(staged, split, folder) for split in tables.SPLITS}
            _check_written(spark, docs, written, folder, out.staging)
            report = PromptsReport(
                **{split: file.rows for split, file in written.items()},
                train_cases=train_cases,
                train_unretrieved=unretrieved,
                test_recall=written["test"].recall,
                history_cut=sum(file.history_cut for file in written.values()),
            )
            docs.counts["Prompts"] = {k: v for k, v in asdict(report).items() if isinstance(v, int)}
    log.info("%s", ", ".join(f"{split} {file.rows:,}" for split, file in written.items()))
    return report


def _stage(
    config: PromptsConfig,
    frames: dict[str, DataFrame],
    cases: DataFrame,
    model: Path,
    staged: Path,
    staging: str | None,
) -> None:
    """Render the sampled cases into part files in `staged`; raise what went wrong in any of them."""
    chosen = sample_cases(config, cases).persist()  # read twice: for the items it names, and to be rendered
    try:
        with written_by_tasks(staged, staging) as folder:
            write_parts(_rendered(config, frames, chosen, model), RENDERED, folder)
    finally:
        chosen.unpersist()
    problems, first = first_of(staged, "problem")
    if problems:
        kind = ConfigError if "max_prompt_tokens" in first else DataError
        raise kind(f"{problems:,} prompts cannot be made; the first: {first}")
    leaks, first = first_of(staged, "leak")
    if leaks:
        raise LeakageError(f"{leaks:,} prompts give their label away; the first: {first}")


def _check_written(
    spark: SparkSession, docs: DataDocs, written: dict[str, SplitFile], folder: Path, staging: str | None
) -> None:
    numbers = written["train"].label_numbers
    with read_by_tasks(folder, staging) as readable_folder:
        check(docs, "prompts", prompts_view(read_parts(spark, readable_folder, tables.PROMPTS)))
    first = pq.read_table(folder / "train.parquet", columns=["candidates"]).slice(0, 1).to_pylist()
    if leak := leakage.position_leak(numbers, len(first[0]["candidates"]) if first else 0):
        raise LeakageError(leak)


def _rendered(
    config: PromptsConfig, frames: dict[str, DataFrame], cases: DataFrame, model: Path
) -> DataFrame:
    """Return the RENDERED rows of `cases`, sorted by (split, user_id, position) over all partitions."""
    catalogue = frames["catalogue"]
    statistics = _statistics(catalogue)
    key = ("user_id", "split", "position")
    # Titles come by joins on the items that the chosen cases name, so nothing as large as the catalogue
    # is sent to every task; Spark broadcasts it by itself where it is small.
    named = cases.select(*key, F.explode(F.array_union("item_ids", "candidates")).alias("item_id"))
    described = named.join(catalogue, "item_id").groupBy(*key)
    item = F.struct("item_id", "title", "topic", "tags", "train_count", "created_at")
    items = described.agg(F.collect_list(item).alias("items"))
    profiles = frames["users"].select("user_id", F.struct(*PROFILE).alias("profile"))
    # Sorted before rendering: sampling the ranges of the sort must not render everything twice.
    full = (
        cases.join(items, list(key), "left")
        .join(profiles, "user_id", "left")
        .orderBy("split", "user_id", "position")
    )
    tokenizer = within_tasks(catalogue.sparkSession, config.spark, model)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        count_tokens = token_counter(tokenizer())
        for batch in batches:
            for start in range(0, batch.num_rows, RENDER_ROWS):
                cases = batch.slice(start, RENDER_ROWS).to_pylist()
                done = [_render(case, config, statistics, count_tokens) for case in cases]
                yield from pa.Table.from_pylist(done, schema=RENDERED).to_batches()

    return full.mapInArrow(rows, from_arrow_schema(RENDERED))


def _statistics(catalogue: DataFrame) -> CatalogueStatistics:
    row = catalogue.agg(F.sum("train_count").alias("interactions"), F.count("*").alias("items")).collect()[0]
    if not row.items:
        raise DataError("the catalogue is empty; run the sequences step on data with items")
    return CatalogueStatistics(interactions=row.interactions, items=row.items)


def _render(
    case: dict[str, Any], config: PromptsConfig, statistics: CatalogueStatistics, count: Any
) -> dict[str, Any]:
    """Render one case; an error becomes its `problem`, as a task's traceback does not help a user."""
    case["items"] = {item["item_id"]: item for item in case["items"] or []}
    case["profile"] = case["profile"] or {}
    try:
        row = render(case, config, statistics, count)
    except ValueError as error:
        return {"problem": f"user {case['user_id']!r}, {case['split']} position {case['position']}: {error}"}
    row["leak"] = row_leak(case, row, row.pop("history_positions"), config)
    return row
