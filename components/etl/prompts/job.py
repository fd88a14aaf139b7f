"""The prompts step: sequences, candidates and catalogue to the table that training and evaluation read."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import dataset
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from components.etl.config import PromptsConfig
from components.etl.contracts import check, data_docs
from components.etl.prompts import leakage
from components.etl.prompts.cases import count_train, keys_of, label_cases, sample_cases
from components.etl.prompts.rows import CatalogueStatistics, render
from components.etl.prompts.statistics import SHOWN_IF_ASKED, together_days, with_facts
from components.etl.prompts.tokens import token_counter
from components.etl.sequences.views import candidates_view, prompts_view
from components.shared.artifacts.outputs import atomic_folder
from components.shared.errors import ConfigError, DataError, LeakageError
from components.shared.logs import logger
from components.shared.spark.parts import conform, read_parts, relaxed, shared_with_tasks, write_parts
from components.shared.spark.session import readable, session
from components.shared.spark.shipping import within_tasks
from data_contracts import tables

RENDER_ROWS = 256  # prompts rendered at a time: a case holds its user's whole history
ROW_GROUP = 1024
TOKENIZER = (".json", ".jinja", ".model", ".txt")  # endings of its files
# Rows on their way: everything may be null, because a row with a problem has nothing else.
RENDERED = pa.schema(
    [
        *(pa.field(field.name, relaxed(field.type)) for field in tables.PROMPTS),
        pa.field("history_cut", pa.int32()),
        pa.field("problem", pa.string()),
        pa.field("leak", pa.string()),
    ]
)

log = logger("prompts")


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


def run_prompts(
    config: PromptsConfig,
    *,
    sequences: str | Path,
    catalogue: str | Path,
    users: str | Path,
    candidates: str | Path,
    base_model: Path,
    prompts: Path,
    page: Path,
    staging: str | None = None,
) -> PromptsReport:
    """Render and check all prompts; write one file per split to `prompts`, or none.

    Tables are folders or s3:// URIs; executors that do not share this disk leave their rows at `staging`.
    """
    spark = session(config.spark, "prompts")
    token_counter(str(base_model))  # a bad model folder should fail here, not inside a task
    with (
        readable("the inputs of the prompts step"),
        data_docs(page, "Prompts") as docs,
        tempfile.TemporaryDirectory(prefix="recllm-") as scratch,
    ):
        frames = {
            "sequences": read_parts(spark, sequences, tables.SEQUENCES),
            "catalogue": read_parts(spark, catalogue, tables.CATALOGUE),
            "users": read_parts(spark, users, tables.USERS),
            "candidates": read_parts(spark, candidates, tables.CANDIDATES),
        }
        check(docs, "candidates", candidates_view(frames["candidates"]))
        leakage.check_folds(frames["candidates"])
        leakage.check_train_counts(frames["catalogue"], frames["sequences"])
        cases = label_cases(config, frames["sequences"], frames["candidates"])
        keys = keys_of(cases).persist()
        train_cases, unretrieved = count_train(keys)
        chosen = sample_cases(config, cases, keys)
        keys.unpersist()
        staged = Path(scratch)
        _stage(config, frames, chosen, base_model, staged, staging)
        with atomic_folder(prompts) as folder:
            written = {split: _write_split(staged, split, folder) for split in tables.SPLITS}
            with shared_with_tasks(folder, staging) as shared_folder:
                check(docs, "prompts", prompts_view(read_parts(spark, shared_folder, tables.PROMPTS)))
            train, test = written["train"], written["test"]
            longest = pc.max(pc.list_value_length(train["candidates"])).as_py() or 0
            shuffled = config.shuffle_train_share
            if leak := leakage.position_leak(_label_numbers(train), longest, shuffled):
                raise LeakageError(leak)
            report = PromptsReport(
                **{split: rows.num_rows for split, rows in written.items()},
                train_cases=train_cases,
                train_unretrieved=unretrieved,
                test_recall=len(_label_numbers(test)) / test.num_rows if test.num_rows else 0.0,
                history_cut=sum(pc.sum(rows["history_cut"]).as_py() or 0 for rows in written.values()),
            )
            docs.counts["Prompts"] = {k: v for k, v in asdict(report).items() if isinstance(v, int)}
    log.info("%s", ", ".join(f"{split} {rows.num_rows:,}" for split, rows in written.items()))
    return report


def _stage(
    config: PromptsConfig,
    frames: Mapping[str, DataFrame],
    cases: DataFrame,
    model: Path,
    staged: Path,
    staging: str | None,
) -> None:
    """Render the cases into part files in `staged`; raise the first problem or leak."""
    cases.persist()  # read twice: for the items they name, and to be rendered
    try:
        with shared_with_tasks(staged, staging) as folder:
            write_parts(_rendered(config, frames, cases, model), RENDERED, folder)
    finally:
        cases.unpersist()
    found = pq.read_table(staged, columns=["problem", "leak"])
    problems, leaks = (column.drop_null().to_pylist() for column in found.columns)
    if problems:
        kind = ConfigError if "max_prompt_tokens" in problems[0] else DataError
        raise kind(f"{len(problems):,} prompts cannot be made; the first: {problems[0]}")
    if leaks:
        raise LeakageError(f"{len(leaks):,} prompts give their label away; the first: {leaks[0]}")


def _write_split(staged: Path, split: str, folder: Path) -> pa.Table:
    """Write the rows of `split` in `staged` to `folder`/SPLIT.parquet; return what is counted of them."""
    counted = []
    with pq.ParquetWriter(folder / f"{split}.parquet", tables.PROMPTS) as writer:
        for group in _row_groups(staged, split):
            writer.write_table(conform(group, tables.PROMPTS))
            counted.append(group.select(["labels", "candidates", "history_cut"]))
    return pa.concat_tables(counted)


def _row_groups(staged: Path, split: str) -> Iterator[pa.Table]:
    """Yield the rows of `split` in tables of ROW_GROUP rows; at least one."""
    scanner = dataset.dataset(staged).scanner(filter=pc.field("split") == split, batch_size=ROW_GROUP)
    waiting, is_empty = RENDERED.empty_table(), True
    for batch in scanner.to_batches():
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while waiting.num_rows >= ROW_GROUP:
            # As one chunk: the bytes depend on the rows alone, not on how they were cut into part files.
            yield waiting.slice(0, ROW_GROUP).combine_chunks()
            waiting, is_empty = waiting.slice(ROW_GROUP), False
    if waiting.num_rows or is_empty:
        yield waiting.combine_chunks()


def _label_numbers(rows: pa.Table) -> list[int]:
    """Return the candidate numbers of the first labels, of prompts that list a label."""
    return [labels[0] for labels in rows["labels"].to_pylist() if labels]


def _rendered(
    config: PromptsConfig, frames: Mapping[str, DataFrame], cases: DataFrame, model: Path
) -> DataFrame:
    """Return the RENDERED rows of `cases`, sorted by (split, user_id, position) over all partitions."""
    catalogue = with_facts(frames["catalogue"], frames["sequences"], config)
    totals = frames["catalogue"].agg(F.sum("train_count"), F.count("*")).collect()[0]
    statistics = CatalogueStatistics(interactions=totals[0] or 0, items=totals[1])
    key = ("user_id", "split", "position")
    # Titles come by joins on the items that the chosen cases name, so nothing as large as the catalogue
    # is sent to every task; Spark broadcasts it by itself where it is small.
    named = cases.select(*key, F.explode(F.array_union("item_ids", "candidates")).alias("item_id"))
    described = named.join(catalogue, "item_id").groupBy(*key)
    item = F.struct(
        "item_id", "title", "topic", "tags", "brand", "train_count", "created_at", *SHOWN_IF_ASKED
    )
    items = described.agg(F.collect_list(item).alias("items"))
    profiles = frames["users"].select("user_id", F.struct(*tables.PROFILE).alias("profile"))
    together = cases.select(*key, F.lit(None).alias("together"))
    if "together" in config.item_facts:
        together = together_days(cases, frames["sequences"])
    # Sorted before rendering: sampling the ranges of the sort must not render everything twice.
    full = (
        cases.join(items, list(key), "left")
        .join(profiles, "user_id", "left")
        .join(together, list(key), "left")
        .orderBy("split", "user_id", "position")
    )
    tokenizer = within_tasks(catalogue.sparkSession, config.spark, model, TOKENIZER)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        count_tokens = token_counter(tokenizer())
        for batch in batches:
            for start in range(0, batch.num_rows, RENDER_ROWS):
                cases = batch.slice(start, RENDER_ROWS).to_pylist()
                done = [_render(case, config, statistics, count_tokens) for case in cases]
                yield from pa.Table.from_pylist(done, schema=RENDERED).to_batches()

    return full.mapInArrow(rows, from_arrow_schema(RENDERED))


def _render(
    case: dict[str, Any], config: PromptsConfig, statistics: CatalogueStatistics, count: Callable[..., int]
) -> dict[str, Any]:
    """Return the rendered case; an error becomes its `problem`, clearer than a task's traceback."""
    case["items"] = {item["item_id"]: item for item in case["items"] or []}
    case["profile"] = case["profile"] or {}
    try:
        row = render(case, config, statistics, count)
    except ValueError as error:
        return {"problem": f"user {case['user_id']!r}, {case['split']} position {case['position']}: {error}"}
    row["leak"] = leakage.row_leak(case, row, row.pop("history_positions"), config)
    return row
