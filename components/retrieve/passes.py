"""The pass over all users: partition after partition here, or in Spark's executors."""

import functools
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from components.retrieve.figures import Sums
from components.retrieve.interactions import Interactions
from components.retrieve.partition import PARTITION, Answering
from components.retrieve.segments import Segments
from components.retrieve.served.folder import Served, load_with_folds, save_with_folds
from components.retrieve.tables import COLUMNS, sequences_of
from components.shared.labels import LabelSettings
from components.shared.spark.config import SparkConfig
from data_contracts import tables

FIRST_PART = "part-00000.parquet"


@dataclass(frozen=True)
class ExecutorTables:
    """Where executors read SEQUENCES and USERS.

    They leave their rows at `staging` if they do not share this disk.
    """

    sequences: str | Path
    users: str | Path
    staging: str | None = None


def here(answering: Answering, data: Interactions, candidates: Path, rankings: Path) -> Sums:
    """Write all users' rows to the two folders; return the sums of their figures."""
    sums = Sums()
    with (
        pq.ParquetWriter(candidates / FIRST_PART, tables.CANDIDATES) as candidate_rows,
        pq.ParquetWriter(rankings / FIRST_PART, tables.RANKINGS) as ranking_rows,
    ):
        for part in data.parts(PARTITION):
            answers = answering.answers(part)
            candidate_rows.write_table(answers.candidates)
            ranking_rows.write_table(answers.rankings)
            sums.update(answers.sums)
    return sums


def in_executors(
    config: SparkConfig,
    answering: Answering,
    data: Interactions,
    segments: Segments,
    labels: LabelSettings,
    seen: ExecutorTables,
    candidates: Path,
    rankings: Path,
) -> Sums:
    """Do what `here` does, with executors that read the tables themselves.

    The retrievers go to every executor as served folders.
    """
    from components.shared.spark.parts import part_writer, read_parts, shared_with_tasks
    from components.shared.spark.session import readable, session
    from components.shared.spark.shipping import within_tasks

    spark, by = session(config, "retrieve"), list(segments.known.columns)
    with (
        tempfile.TemporaryDirectory(prefix="recllm-") as scratch,
        ExitStack() as stack,
        readable(str(seen.sequences)),
    ):
        items = pa.table({"item_id": answering.item_ids})
        save_with_folds(Served(answering.final, items, segments), answering.folds, data, Path(scratch))
        source = str(seen.sequences)
        shipped, ranked = within_tasks(spark, config, Path(scratch)), answering.ranked
        folders = [
            str(stack.enter_context(shared_with_tasks(folder, seen.staging and f"{seen.staging}/{name}")))
            for name, folder in (("candidates", candidates), ("rankings", rankings))
        ]

        def answer(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            held, known = _loaded(shipped(), ranked)
            sums = Sums()
            with (
                part_writer(folders[0], tables.CANDIDATES) as candidate_rows,
                part_writer(folders[1], tables.RANKINGS) as ranking_rows,
            ):
                for batch in batches:
                    for start in range(0, batch.num_rows, PARTITION):
                        rows = batch.slice(start, PARTITION)
                        part = sequences_of(rows, held.item_ids, source, labels)
                        profiles = rows.select(by).to_pandas()
                        answers = held.answers(replace(part, segments=known.numbers(profiles)))
                        candidate_rows.write_table(answers.candidates)
                        ranking_rows.write_table(answers.rankings)
                        sums.update(answers.sums)
            yield pa.record_batch({"name": [*sums], "sum": [float(value) for value in sums.values()]})

        asked = read_parts(spark, seen.sequences, tables.SEQUENCES).select(*COLUMNS)
        if by:
            profiles = read_parts(spark, seen.users, tables.USERS).select("user_id", *by)
            asked = asked.join(profiles.dropDuplicates(["user_id"]), "user_id", "left")
        added = asked.mapInArrow(answer, "name string, sum double").groupBy("name").sum("sum").collect()
    return Sums({row[0]: row[1] for row in added})


@functools.cache  # one load per Python worker
def _loaded(folder: str, ranked: tuple[str, ...]) -> tuple[Answering, Segments]:
    """Return the item side that `in_executors` ships."""
    torch.set_num_threads(1)  # an executor runs a task per core
    final, folds = load_with_folds(Path(folder))
    item_ids = final.items["item_id"].combine_chunks()
    return Answering(final.retriever, folds, item_ids, ranked), final.segments
