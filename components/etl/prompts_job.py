"""The prompts step: sequences, candidates and catalogue to the table that training and evaluation read."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from components.etl.config import PromptsConfig
from components.etl.data_docs import data_docs
from components.etl.prompts import CatalogueStatistics, render
from components.etl.sink import write_parts
from components.etl.spark import session
from components.etl.tokens import token_counter
from components.etl.types import conform, spark_schema
from components.shared.errors import ConfigError, DataError
from components.shared.outputs import whole_folder
from data_contracts import tables

PROFILE = ("age", "gender", "city_tier", "interests")
GROUP_ROWS = 1024  # rows of a row group in the written files
# Rows on their way: everything may be null, because a row with a problem has nothing else.
RENDERED = pa.schema(
    [
        *(field.with_nullable(True) for field in tables.PROMPTS),
        pa.field("history_cut", pa.int32()),
        pa.field("problem", pa.string()),
    ]
)
RENDER_ROWS = 256  # prompts rendered at a time: keeps the nested rows of a batch small


@dataclass(frozen=True, kw_only=True)
class PromptsInputs:
    """Folders of Parquet (schemas in data_contracts.tables) and the base model's folder."""

    sequences: Path
    catalogue: Path
    users: Path
    candidates: Path
    base_model: Path


@dataclass(frozen=True, kw_only=True)
class PromptsOutputs:
    """`prompts`: a folder with train.parquet, valid.parquet and test.parquet; `data_docs`: an HTML file."""

    prompts: Path
    data_docs: Path


@dataclass(frozen=True, kw_only=True)
class PromptsReport:
    """Prompts written, and what happened on the way.

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
        ContractError, LeakageError: the prompts are not fit to be used.
        ConfigError: a prompt does not fit the token budget.
    """
    spark = session(config.spark, "prompts")
    token_counter(str(inputs.base_model))  # a bad model folder should fail here, not inside a task
    with (
        data_docs(out.data_docs, "Prompts") as docs,
        tempfile.TemporaryDirectory(prefix="recllm-") as scratch,
    ):
        frames = {
            name: read_table(spark, getattr(inputs, name), schema)
            for name, schema in (
                ("sequences", tables.SEQUENCES),
                ("catalogue", tables.CATALOGUE),
                ("users", tables.USERS),
                ("candidates", tables.CANDIDATES),
            )
        }
        cases = label_cases(config, frames["sequences"], frames["candidates"])
        train_cases, unretrieved = _count_train(cases)
        chosen = sample_cases(config, cases).persist()
        try:
            staged = Path(scratch)
            write_parts(_rendered(config, frames, chosen, inputs.base_model), RENDERED, staged)
        finally:
            chosen.unpersist()
        _raise_problems(config, staged)
        with whole_folder(out.prompts) as folder:
            written = {split: _write_split(staged, split, folder) for split in tables.SPLITS}
    print(f"prompts: {', '.join(f'{split} {one.rows:,}' for split, one in written.items())}", flush=True)
    return PromptsReport(
        train=written["train"].rows,
        valid=written["valid"].rows,
        test=written["test"].rows,
        train_cases=train_cases,
        train_unretrieved=unretrieved,
        test_recall=written["test"].retrieved / max(written["test"].rows, 1),
        history_cut=sum(one.history_cut for one in written.values()),
    )


def read_table(spark: SparkSession, folder: Path, schema: pa.Schema) -> DataFrame:
    """Return the Parquet table in `folder` with the types of `schema`. Raises DataError."""
    files = sorted(str(file) for file in Path(folder).glob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: no Parquet files; did the step that writes it finish?")
    try:
        found = pq.read_schema(files[0])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{files[0]}: not a readable Parquet file ({error}); run the step again") from error
    for field in schema:
        if field.name not in found.names:
            raise DataError(f"{folder}: column '{field.name}' is missing (found: {', '.join(found.names)})")
    return spark.read.schema(spark_schema(schema)).parquet(*files)


def label_cases(config: PromptsConfig, sequences: DataFrame, candidates: DataFrame) -> DataFrame:
    """Return one row a prompt to ask: the candidates joined with the user's sequence, and the labels.

    Columns of both tables, `candidates` for the candidates' item ids, `label_positions`, `retrieved`.
    """
    position, valid_end = F.col("position"), F.col("valid_end")
    asked = candidates.select("user_id", "split", "position", "fold", F.col("item_ids").alias("candidates"))
    joined = asked.join(sequences, "user_id")
    # Leave-one-out has windows of one item each, so one rule serves both splits.
    end = (
        F.when(F.col("split") == "train", position + 1)
        .when(F.col("split") == "valid", F.greatest(valid_end, position + 1))
        .otherwise(F.size("item_ids"))
    )
    window = F.sequence(position, end - 1)
    strong = F.filter(window, lambda p: _at("engagement", p) >= config.label_min_engagement)
    first = F.slice(strong, 1, config.answer_length)
    labels = F.when(F.size(first) > 0, first).otherwise(F.array(position))
    items = F.transform(F.col("label_positions"), lambda p: _at("item_ids", p))
    return joined.withColumn("label_positions", labels).withColumn(
        "retrieved", F.arrays_overlap(items, F.col("candidates"))
    )


def _at(column: str, index: Column) -> Column:
    return F.element_at(F.col(column), index.cast("int") + 1)


def _count_train(cases: DataFrame) -> tuple[int, int]:
    counted = cases.where(F.col("split") == "train").agg(
        F.count("*").alias("cases"), F.sum((~F.col("retrieved")).cast("long")).alias("lost")
    )
    row = counted.collect()[0]
    return row.cases, row.lost or 0


def sample_cases(config: PromptsConfig, cases: DataFrame) -> DataFrame:
    """Return the seeded sample of users of each split: those with the smallest seeded hash of their id."""
    sizes = {"train": config.train_prompts, "valid": config.valid_prompts, "test": config.test_prompts}
    parts = []
    for split, size in sizes.items():
        part = cases.where(F.col("split") == split)
        if split == "train" and config.unretrieved == "drop":
            part = part.where("retrieved")
        if size:
            lot = F.xxhash64(F.lit(config.seed), F.lit(split), F.col("user_id"))
            # orderBy + limit keeps only the best `size` of each task: no full sort, no shuffle of the rest.
            part = part.orderBy(lot, "user_id", "position").limit(size)
        parts.append(part)
    return parts[0].unionByName(parts[1]).unionByName(parts[2])


def _rendered(
    config: PromptsConfig, frames: dict[str, DataFrame], cases: DataFrame, model: Path
) -> DataFrame:
    """Return the RENDERED rows of `cases`, sorted by (split, user_id, position) over all partitions."""
    catalogue = frames["catalogue"]
    statistics = _statistics(catalogue)
    key = ("user_id", "split", "position")
    # Titles come by joins on the items that the chosen cases name, so nothing as large as the catalogue
    # is sent to every task; Spark broadcasts it by itself where it is small.
    named = cases.select(
        *key,
        F.explode(F.array_union(F.slice("item_ids", F.lit(1), F.col("position")), "candidates")).alias(
            "item_id"
        ),
    )
    described = named.join(catalogue, "item_id").groupBy(*key)
    items = described.agg(
        F.collect_list(F.struct("item_id", "title", "topic", "tags", "train_count")).alias("items")
    )
    profiles = frames["users"].select("user_id", F.struct(*PROFILE).alias("profile"))
    # Sorted before rendering: sampling the ranges of the sort must not render everything twice.
    full = (
        cases.join(items, list(key), "left")
        .join(profiles, "user_id", "left")
        .orderBy("split", "user_id", "position")
    )
    folder = str(model)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        count_tokens = token_counter(folder)
        for batch in batches:
            for start in range(0, batch.num_rows, RENDER_ROWS):
                cases = batch.slice(start, RENDER_ROWS).to_pylist()
                done = [_render(case, config, statistics, count_tokens) for case in cases]
                yield from pa.Table.from_pylist(done, schema=RENDERED).to_batches()

    return full.mapInArrow(rows, spark_schema(RENDERED))


def _statistics(catalogue: DataFrame) -> CatalogueStatistics:
    row = catalogue.agg(F.sum("train_count").alias("interactions"), F.count("*").alias("items")).collect()[0]
    if not row.items:
        raise DataError("the catalogue is empty; run the sequences step on data with items")
    return CatalogueStatistics(interactions=row.interactions, items=row.items)


def _render(
    case: dict[str, Any], config: PromptsConfig, statistics: CatalogueStatistics, count: Any
) -> dict[str, Any]:
    """Render one case; what goes wrong is told in `problem`, because a task's traceback tells a user nothing."""
    case["items"] = {item["item_id"]: item for item in case["items"] or []}
    case["profile"] = case["profile"] or {}
    try:
        return render(case, config, statistics, count)
    except ValueError as error:
        return {"problem": f"user {case['user_id']!r}, {case['split']} position {case['position']}: {error}"}


def _raise_problems(config: PromptsConfig, staged: Path) -> None:
    problems = pq.read_table(staged, columns=["problem"]).column("problem").drop_null()
    if not len(problems):
        return
    kind = ConfigError if "max_prompt_tokens" in problems[0].as_py() else DataError
    raise kind(f"{len(problems):,} prompts cannot be made; the first: {problems[0].as_py()}")


@dataclass(frozen=True, kw_only=True)
class WrittenSplit:
    """Counts of one split's file."""

    rows: int
    retrieved: int
    history_cut: int


def _write_split(staged: Path, split: str, folder: Path) -> WrittenSplit:
    """Write the rows of `split` to one file in order, numbered from 0, in row groups of fixed size."""
    rows = retrieved = cut = 0
    held: list[pa.Table] = []
    with pq.ParquetWriter(folder / f"{split}.parquet", tables.PROMPTS) as writer:

        def flush(least: int) -> None:
            nonlocal held, rows
            table = pa.concat_tables(held) if held else tables.PROMPTS.empty_table()
            while table.num_rows and table.num_rows >= least:
                group = table.slice(0, GROUP_ROWS)
                writer.write_table(_numbered(group, rows))
                rows += group.num_rows
                table = table.slice(GROUP_ROWS)
            held = [table]

        for file in sorted(staged.glob("part-*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches():
                mask = pc.equal(pc.struct_field(batch.column("extra_info"), ["split"]), split)
                part = pa.Table.from_batches([batch]).filter(mask)
                cut += pc.sum(part.column("history_cut")).as_py() or 0
                labels = pc.struct_field(part.column("reward_model"), ["ground_truth", "labels"])
                retrieved += pc.sum(pc.greater(pc.list_value_length(labels), 0)).as_py() or 0
                held.append(conform(part, tables.PROMPTS))
                flush(GROUP_ROWS)
        flush(1)
    return WrittenSplit(rows=rows, retrieved=retrieved, history_cut=cut)


def _numbered(table: pa.Table, start: int) -> pa.Table:
    """Return `table` with extra_info.index counting from `start`."""
    kind = tables.PROMPTS.field("extra_info").type
    info = table.column("extra_info").combine_chunks()
    children = info.flatten()
    children[0] = pa.array(range(start, start + table.num_rows), pa.int64())
    numbered = pa.StructArray.from_arrays(children, fields=list(kind))
    return table.set_column(
        table.schema.get_field_index("extra_info"), tables.PROMPTS.field("extra_info"), [numbered]
    )
