"""The raw tables of one data folder: read, every row's fault named, contracts checked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from components.etl import faults, sources
from components.etl.config import SequencesConfig, parse_time
from components.etl.contracts import check
from components.etl.data_docs import DataDocs
from components.etl.quarantine import Quarantine

TABLES = ("users", "items", "events")


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """The raw tables in the contract's types, each with `_malformed` and `fault`."""

    users: DataFrame
    items: DataFrame
    events: DataFrame


def read_raw(spark: SparkSession, config: SequencesConfig, folder: Path) -> RawTables:
    """Locate, check and read users, items and events in `folder`. Raises DataError."""
    found = {table: sources.locate(folder, table) for table in TABLES}
    for source in found.values():
        sources.check(source)
    users = faults.keyed_faults(sources.read(spark, found["users"]), "user_id")
    items = faults.keyed_faults(sources.read(spark, found["items"]), "item_id")
    latest = parse_time("latest", config.latest) if config.latest else datetime.now(UTC) + timedelta(days=1)
    events = faults.event_faults(
        sources.read(spark, found["events"]),
        latest,
        faults.clean(items).select("item_id"),
        faults.clean(users).select("user_id") if config.unknown_users == "quarantine" else None,
    )
    return RawTables(users=users, items=items, events=events)


def check_raw(config: SequencesConfig, raw: RawTables, docs: DataDocs) -> Quarantine:
    """Run the raw contracts, filling `docs`; return the counts of what is refused.

    Raises:
        ContractError: too many faulty rows, or a critical expectation failed.
    """
    quarantine = Quarantine(max_share=config.max_quarantine_share)
    for table in TABLES:
        frame: DataFrame = getattr(raw, table)
        try:
            quarantine.count(table, frame)
        finally:
            docs.counts.update(quarantine.shown())
        check(docs, f"raw_{table}", frame, {"clean_share": 1 - config.max_quarantine_share})
        refused = sum(quarantine.reasons[table].values())
        print(f"{table}: {quarantine.rows[table]:,} rows, {refused:,} refused, contract checked", flush=True)
    return quarantine
