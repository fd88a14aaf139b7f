"""The raw tables of a data folder: read, faults named, contracts checked, refused rows counted."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from components.etl.config import SequencesConfig, SparkConfig
from components.etl.contracts import SAMPLES, DataDocs, check, data_docs
from components.etl.sources import faults
from components.etl.sources.faults import FAULT
from components.etl.sources.readers import read
from components.etl.spark.session import readable, session
from components.shared.artifacts import raw_tables
from components.shared.artifacts.raw_tables import Source
from components.shared.artifacts.storage import Folder, download, is_remote, scratch_folder
from components.shared.errors import ContractError, DataError
from components.shared.logs import logger
from components.shared.times import parse_time

log = logger("sequences")

TABLES = ("users", "items", "events", "exposures")


@dataclass
class Quarantine:
    """Rows read and refused (by reason) per raw table; at most `max_share` may be refused."""

    docs: DataDocs
    max_share: float
    rows: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, table: str, frame: DataFrame) -> None:
        """Count the rows and faults of `frame` in one pass; raises as `check` does."""
        found = {row[FAULT]: row["count"] for row in frame.groupBy(FAULT).count().collect()}
        valid = found.pop(None, 0)
        self.record(table, valid + sum(found.values()), dict(sorted(found.items())))
        if not self.rows[table]:
            raise DataError(f"the {table} table has no rows; is the export complete?")
        self.check(table, frame)
        if not valid:
            raise DataError(f"no row of the {table} table is usable: {self.reasons[table]}")

    def record(self, table: str, rows: int, reasons: dict[str, int]) -> None:
        """Record rows read and refused (by reason) of `table`, here and in the data docs."""
        self.rows[table], self.reasons[table] = rows, reasons
        refused = {f"refused: {reason}": count for reason, count in reasons.items()}
        self.docs.counts[f"Table {table}"] = {"rows read": rows, **refused}
        log.info(f"{table}: {rows:,} rows, {sum(reasons.values()):,} refused")

    def check(self, table: str, frame: DataFrame) -> None:
        """Raise ContractError, with sample rows of `frame`, if more than `max_share` are refused."""
        refused, rows = sum(self.reasons[table].values()), self.rows[table]
        if refused <= self.max_share * rows:
            return
        rows_shown = faults.faulty_rows(table, frame).limit(SAMPLES).collect()
        samples = "; sample rows: " + " ".join(f"[{row.reason}] {row.row}" for row in rows_shown)
        listed = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons[table].items())
        raise ContractError(
            f"contract 'raw_{table}' is broken: {refused:,} of {rows:,} rows are faulty ({listed}), more "
            f"than max_quarantine_share={self.max_share:g}{samples if rows_shown else ''}; "
            "correct the export, or raise max_quarantine_share"
        )


def locate_tables(config: SequencesConfig, data: str) -> dict[str, Source]:
    """Return the checked files per raw table in `data`; exposures may be missing.

    Raises DataError: a table is missing, unreadable, empty, or lacks a column.
    """
    folder = _readable_folder(config.spark, data)
    found = {table: raw_tables.locate(folder, table) for table in ("users", "items", "events")}
    if config.exposures:
        found["exposures"] = raw_tables.locate(_readable_folder(config.spark, config.exposures), "exposures")
    elif lists := raw_tables.find(folder, "exposures"):
        found["exposures"] = lists
    for source in found.values():
        raw_tables.check(source)
    return found


def _readable_folder(config: SparkConfig, data: str) -> Folder:
    # Executors on a cluster have a client for object storage; local Spark has none.
    if not is_remote(data) or not config.is_local:
        return Folder.at(data)
    log.info(f"copying {data}")
    copy = scratch_folder()
    download(data, copy)
    return Folder.at(copy)


def validate_raw(config: SequencesConfig, data: str, page: Path) -> Quarantine:
    """Return the counts of refused rows in `data`; `page` shows the findings of the contracts.

    Raises DataError or ContractError as the sequences step does.
    """
    # Only `recllm validate` calls this; it is here because it is the step's own check without the rest.
    with readable(data), data_docs(page, "Raw data") as docs:
        found = locate_tables(config, data)  # before Spark takes its seconds to start
        raw = read_raw(session(config.spark, "validate"), config, found)
        quarantine = check_raw(config, raw, docs)
        events = raw["events"]  # the sequences step finds duplicates on its way
        same = faults.valid_rows(events).groupBy("user_id", "item_id", "action", "timestamp").count()
        if repeated := same.agg(F.sum(F.col("count") - 1)).collect()[0][0]:
            reasons = {**quarantine.reasons["events"], "duplicate": repeated}
            quarantine.record("events", quarantine.rows["events"], reasons)
        quarantine.check("events", events)
        return quarantine


def read_raw(
    spark: SparkSession, config: SequencesConfig, found: Mapping[str, Source]
) -> dict[str, DataFrame]:
    """Return the tables of `found` in the contract's types, with `_malformed` and every row's `fault`."""
    raw = {table: read(spark, source) for table, source in found.items()}
    latest = parse_time("latest", config.latest) if config.latest else datetime.now(UTC) + timedelta(days=1)
    for table, key in (("users", "user_id"), ("items", "item_id")):
        raw[table] = faults.keyed_faults(raw[table], key)
    raw["events"] = faults.event_faults(
        raw["events"],
        latest,
        faults.valid_rows(raw["items"]).select("item_id"),
        faults.valid_rows(raw["users"]).select("user_id") if config.unknown_users == "quarantine" else None,
    )
    if "exposures" in raw:
        raw["exposures"] = faults.exposure_faults(raw["exposures"], latest)
    return raw


def check_raw(
    config: SequencesConfig, raw: Mapping[str, DataFrame], docs: DataDocs, counted: Collection[str] = TABLES
) -> Quarantine:
    """Return counts of the `counted` tables' refused rows; the contracts' findings go to `docs`.

    Other tables are counted by a later pass, or here if their contract is broken.
    Raises ContractError: too many faulty rows, or a critical expectation failed.
    """
    quarantine = Quarantine(docs, config.max_quarantine_share)
    for table, frame in raw.items():
        if table in counted:
            quarantine.count(table, frame)
        try:
            check(docs, f"raw_{table}", frame, {"clean_share": 1 - config.max_quarantine_share})
        except ContractError:
            if table not in counted:
                quarantine.count(table, frame)
            raise
        log.info(f"{table}: contract holds")
    return quarantine
