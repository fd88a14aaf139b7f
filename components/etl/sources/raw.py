"""The raw tables of a data folder: read, faults named, contracts checked."""

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
from components.etl.sources import faults, files
from components.etl.sources.files import Source
from components.etl.sources.quarantine import Quarantine
from components.etl.sources.readers import read
from components.etl.spark.session import readable, session
from components.shared.artifacts.storage import Folder, download, is_remote
from components.shared.errors import ContractError
from components.shared.logs import logger

log = logger("sequences")

TABLES = ("users", "items", "events", "exposures")


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """The raw tables in the contract's types, with `_malformed` and `fault`."""

    users: DataFrame
    items: DataFrame
    events: DataFrame
    exposures: DataFrame | None = None

    def present(self) -> dict[str, DataFrame]:
        """Return the tables that exist, by name."""
        return {name: getattr(self, name) for name in TABLES if getattr(self, name) is not None}


@contextmanager
def locate_tables(config: SequencesConfig, data: str) -> Iterator[dict[str, Source]]:
    """Yield the checked files of the raw tables in `data` by table; exposures may be missing.

    Raises:
        DataError: a table is missing, unreadable, empty, or lacks a column.
    """
    with ExitStack() as copies:
        folder = copies.enter_context(_readable_folder(config.spark, data))
        found = {table: files.locate(folder, table) for table in ("users", "items", "events")}
        if config.exposures:
            elsewhere = copies.enter_context(_readable_folder(config.spark, config.exposures))
            found["exposures"] = files.locate(elsewhere, "exposures")
        elif lists := files.find(folder, "exposures"):
            found["exposures"] = lists
        for source in found.values():
            files.check(source)
        yield found


@contextmanager
def _readable_folder(config: SparkConfig, data: str) -> Iterator[Folder]:
    """Yield the folder `data`, or a copy if it is in object storage and Spark is local."""
    # Executors on a cluster have a client for object storage; local Spark has none.
    if not is_remote(data) or not config.is_local:
        yield Folder.at(data)
        return
    with tempfile.TemporaryDirectory(prefix="recllm-data-") as folder:
        log.info(f"copying {data}")
        download(data, Path(folder))
        yield Folder.at(folder)


def validate_raw(config: SequencesConfig, data: str, page: Path) -> Quarantine:
    """Return the counts of refused rows in `data`; `page` shows the findings of the contracts.

    Raises:
        DataError, ContractError: as the sequences step raises them.
    """
    # Only `recllm validate` calls this; it is here because it is the step's own check without the rest.
    with (
        readable(data),
        data_docs(page, "Raw data") as docs,
        locate_tables(config, data) as found,  # before Spark takes its seconds to start
    ):
        raw = read_raw(session(config.spark, "validate"), config, found)
        quarantine = check_raw(config, raw, docs)
        _count_duplicates(quarantine, raw.events)  # the sequences step finds them on its way
        docs.counts.update(quarantine.sections())
        quarantine.check("events", raw.events)
        return quarantine


def read_raw(spark: SparkSession, config: SequencesConfig, found: Mapping[str, Source]) -> RawTables:
    """Return the tables of `found` with every row's fault."""
    users = faults.keyed_faults(read(spark, found["users"]), "user_id")
    items = faults.keyed_faults(read(spark, found["items"]), "item_id")
    latest = parse_time("latest", config.latest) if config.latest else datetime.now(UTC) + timedelta(days=1)
    events = faults.event_faults(
        read(spark, found["events"]),
        latest,
        faults.valid_rows(items).select("item_id"),
        faults.valid_rows(users).select("user_id") if config.unknown_users == "quarantine" else None,
    )
    lists = found.get("exposures")
    exposures = faults.exposure_faults(read(spark, lists), latest) if lists else None
    return RawTables(users=users, items=items, events=events, exposures=exposures)


def check_raw(
    config: SequencesConfig, raw: RawTables, docs: DataDocs, counted: Collection[str] = TABLES
) -> Quarantine:
    """Return counts of the `counted` tables' refused rows; the contracts' findings go to `docs`.

    Other tables are counted by a later pass, or here if their contract is broken.

    Raises:
        ContractError: too many faulty rows, or a critical expectation failed.
    """
    quarantine = Quarantine(max_share=config.max_quarantine_share)

    def count(table: str) -> None:
        try:
            quarantine.count(table, getattr(raw, table))
        finally:
            docs.counts.update(quarantine.sections())

    for table, frame in raw.present().items():
        if table in counted:
            count(table)
        try:
            check(docs, f"raw_{table}", frame, {"clean_share": 1 - config.max_quarantine_share})
        except ContractError:
            if table not in counted:
                count(table)
            raise
        if table in counted:
            refused = sum(quarantine.reasons[table].values())
            log.info(f"{table}: {quarantine.rows[table]:,} rows, {refused:,} refused")
        log.info(f"{table}: contract holds")
    return quarantine


def _count_duplicates(quarantine: Quarantine, events: DataFrame) -> None:
    same = faults.valid_rows(events).groupBy("user_id", "item_id", "action", "timestamp").count()
    repeated = same.agg(F.sum(F.col("count") - 1)).collect()[0][0]
    if repeated:
        reasons = {**quarantine.reasons["events"], "duplicate": repeated}
        quarantine.record("events", quarantine.rows["events"], reasons)
