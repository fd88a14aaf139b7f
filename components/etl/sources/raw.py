"""The raw tables of one data folder: read, every row's fault named, contracts checked."""

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from components.etl.config import SequencesConfig, SparkConfig, parse_time
from components.etl.contracts import check
from components.etl.data_docs import DataDocs, data_docs
from components.etl.sources import faults
from components.etl.sources import readers as sources
from components.etl.sources.quarantine import Quarantine
from components.etl.spark.session import readable, session
from components.shared.artifacts.storage import Folder, download, is_remote
from components.shared.errors import ContractError

TABLES = ("users", "items", "events", "exposures")


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """The raw tables in the contract's types, each with `_malformed` and `fault`."""

    users: DataFrame
    items: DataFrame
    events: DataFrame
    exposures: DataFrame | None = None

    def present(self) -> dict[str, DataFrame]:
        """Return the tables that there are, by name."""
        return {name: getattr(self, name) for name in TABLES if getattr(self, name) is not None}


@contextmanager
def located(config: SequencesConfig, data: str) -> Iterator[dict[str, sources.Source]]:
    """Yield the raw tables in `data` by name, their files checked; exposures may be missing.

    Raises:
        DataError: a table is missing, unreadable, empty, or lacks a column.
    """
    with ExitStack() as copies:
        folder = copies.enter_context(_within_reach(config.spark, data))
        found = {table: sources.locate(folder, table) for table in ("users", "items", "events")}
        if config.exposures:
            elsewhere = copies.enter_context(_within_reach(config.spark, config.exposures))
            found["exposures"] = sources.locate(elsewhere, "exposures")
        elif lists := sources.find(folder, "exposures"):
            found["exposures"] = lists
        for source in found.values():
            sources.check(source)
        yield found


@contextmanager
def _within_reach(config: SparkConfig, data: str) -> Iterator[Folder]:
    """Yield the folder of the raw tables where Spark can read it.

    That is `data` itself, on the disk or, for executors on a cluster, at its s3:// URI. Spark on this
    machine, which has no client for object storage, reads a copy.
    """
    if not is_remote(data) or not config.is_local:
        yield Folder.at(data)
        return
    with tempfile.TemporaryDirectory(prefix="recllm-data-") as folder:
        print(f"raw data: copying {data}", flush=True)
        download(data, Path(folder))
        yield Folder.at(folder)


def validate_raw(config: SequencesConfig, data: str, page: Path) -> Quarantine:
    """Run the contracts of the raw tables in `data` alone; `page` shows what they found.

    Raises:
        DataError, ContractError: as the sequences step raises them.
    """
    with (
        readable(data),
        data_docs(page, "Raw data") as docs,
        located(config, data) as found,  # before Spark takes its seconds to start
    ):
        raw = read_raw(session(config.spark, "validate"), config, found)
        quarantine = check_raw(config, raw, docs)
        _count_repeated(quarantine, raw.events)  # the sequences step finds them on its way
        docs.counts.update(quarantine.shown())
        quarantine.check("events", raw.events)
        return quarantine


def read_raw(spark: SparkSession, config: SequencesConfig, found: Mapping[str, sources.Source]) -> RawTables:
    """Read the located tables and name every row's fault."""
    users = faults.keyed_faults(sources.read(spark, found["users"]), "user_id")
    items = faults.keyed_faults(sources.read(spark, found["items"]), "item_id")
    latest = parse_time("latest", config.latest) if config.latest else datetime.now(UTC) + timedelta(days=1)
    events = faults.event_faults(
        sources.read(spark, found["events"]),
        latest,
        faults.clean(items).select("item_id"),
        faults.clean(users).select("user_id") if config.unknown_users == "quarantine" else None,
    )
    lists = found.get("exposures")
    exposures = faults.exposure_faults(sources.read(spark, lists), latest) if lists else None
    return RawTables(users=users, items=items, events=events, exposures=exposures)


def check_raw(
    config: SequencesConfig, raw: RawTables, docs: DataDocs, counted: Collection[str] = TABLES
) -> Quarantine:
    """Run the raw contracts, filling `docs`; return how many rows of the `counted` tables are refused.

    A table that is not counted is left to a later pass, but for the counts that explain a broken contract.

    Raises:
        ContractError: too many faulty rows, or a critical expectation failed.
    """
    quarantine = Quarantine(max_share=config.max_quarantine_share)

    def count(table: str) -> None:
        try:
            quarantine.count(table, getattr(raw, table))
        finally:
            docs.counts.update(quarantine.shown())

    for table, frame in raw.present().items():
        if table in counted:
            count(table)
        try:
            check(docs, f"raw_{table}", frame, {"clean_share": 1 - config.max_quarantine_share})
        except ContractError:
            if table not in counted:
                count(table)
            raise
        print(f"{table}: {_told(quarantine, table)}contract checked", flush=True)
    return quarantine


def _count_repeated(quarantine: Quarantine, events: DataFrame) -> None:
    same = faults.clean(events).groupBy("user_id", "item_id", "action", "timestamp").count()
    repeated = same.agg(F.sum(F.col("count") - 1)).collect()[0][0]
    if repeated:
        reasons = {**quarantine.reasons["events"], "duplicate": repeated}
        quarantine.fill("events", quarantine.rows["events"], reasons)


def _told(quarantine: Quarantine, table: str) -> str:
    if table not in quarantine.rows:
        return ""
    return f"{quarantine.rows[table]:,} rows, {sum(quarantine.reasons[table].values()):,} refused, "
