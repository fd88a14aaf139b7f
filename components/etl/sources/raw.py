"""The raw tables of a data folder: read, faults named, contracts checked, refused rows counted."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from components.etl.config import SequencesConfig
from components.etl.contracts import SAMPLES, DataDocs, check, data_docs
from components.etl.sources import faults
from components.etl.sources.readers import PLACE, UNREAD, ids_of, read
from components.etl.sources.tally import Tally, groups, tally
from components.shared.artifacts import raw_tables
from components.shared.artifacts.raw_tables import Source
from components.shared.artifacts.storage import Folder, download, is_remote, scratch_folder
from components.shared.errors import ContractError, DataError
from components.shared.logs import logger
from components.shared.spark.config import SparkConfig
from components.shared.spark.session import readable, session
from components.shared.times import parse_time

log = logger("sequences")

TABLES = ("users", "items", "events", "exposures")


@dataclass
class Quarantine:
    """What was read and refused of each raw table; at most `max_share` may be."""

    docs: DataDocs
    max_share: float
    tallies: dict[str, Tally] = field(default_factory=dict)

    def count(self, source: Source, frame: DataFrame) -> None:
        """Count the rows and faults of `frame` in one pass; raises as `check` does."""
        self.record(source.table, tally(source, groups(frame).collect()))
        self.check(source.table, frame)

    def record(self, table: str, found: Tally) -> None:
        """Record what was found in `table`, here, in the log and in the data docs."""
        self.tallies[table] = found
        refused = {f"refused: {reason}": count for reason, count in found.refused.items()}
        unread = {f"null, because not readable: {name}": count for name, count in found.unread.items()}
        self.docs.counts[f"Table {table}"] = {"rows read": found.rows, **refused, **unread}
        log.info(f"{table}: {found.rows:,} rows read, {sum(found.refused.values()):,} refused")
        lines = [
            (f"{count:,} refused: {reason}", found.examples.get(reason, ""), faults.advice(reason))
            for reason, count in found.refused.items()
        ]
        lines += [
            (
                f"{count:,} null, not readable: {name}",
                found.examples.get(UNREAD + name, ""),
                "correct the export",
            )
            for name, count in found.unread.items()
        ]
        self.docs.examples[f"Table {table}"] = lines
        for what, example, advice in lines:
            log.warning(f"{table}: {what}, such as {example} ({advice})")

    def check(self, table: str, frame: DataFrame) -> None:
        """Raise ContractError, with sample rows of `frame`, if more than `max_share` are refused."""
        found = self.tallies[table]
        refused, rows = sum(found.refused.values()), found.rows
        if not rows:
            raise DataError(f"the {table} table has no rows; is the export complete?")
        if refused <= self.max_share * rows and refused < rows:
            return
        rows_shown = faults.faulty_rows(table, frame).limit(SAMPLES).collect()
        samples = "; sample rows: " + " ".join(f"[{row.reason}] {row.row}" for row in rows_shown)
        listed = ", ".join(f"{reason} {count:,}" for reason, count in found.refused.items())
        most = max(found.refused, key=lambda reason: found.refused[reason])
        first = f"; the first {most}: {found.examples[most]}" if most in found.examples else ""
        way_out = "" if refused == rows else ", or raise max_quarantine_share"
        raise ContractError(
            f"contract 'raw_{table}' is broken: {refused:,} of {rows:,} rows are faulty ({listed}), more "
            f"than max_quarantine_share={self.max_share:g}{samples if rows_shown else ''}{first}; "
            f"{faults.advice(most)}{way_out}"
        )


def locate_tables(config: SequencesConfig, data: str) -> dict[str, Source]:
    """Return the checked files per raw table in `data`; exposures may be missing.

    Raises DataError: a table is missing, unreadable, empty, or lacks a column.
    """
    folder = _readable_folder(config.spark, data)
    present = [t for t in ("users", "items", "events") if not config.sources.of(t).from_events]
    found = {table: raw_tables.locate(folder, table, config.sources.of(table)) for table in present}
    lists = config.sources.exposures
    if config.exposures:
        elsewhere = _readable_folder(config.spark, config.exposures)
        found["exposures"] = raw_tables.locate(elsewhere, "exposures", lists)
    elif shown := raw_tables.find(folder, "exposures", lists):
        found["exposures"] = shown
    for source in found.values():
        raw_tables.check(source)
    for source in found.values():
        raw_tables.read_to_the_end(source)
        if source.format == "csv":
            for dialect in sorted(set(map(str, source.dialects.values()))):
                log.info(f"{source.table}: {dialect}")
    derived = {t: replace(found["events"], table=t) for t in ("users", "items") if t not in present}
    return derived | found


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
        quarantine = check_raw(config, raw, found, docs)
        valid = faults.valid_rows(raw["events"])
        user_ids = valid.select("user_id").distinct()
        check_users(config, docs, user_ids, user_ids.count(), faults.valid_rows(raw["users"]))
        same = valid.groupBy(
            "user_id", "item_id", "action", "timestamp"
        ).count()  # the step finds them on its way
        if repeated := same.agg(F.sum(F.col("count") - 1)).collect()[0][0]:
            events = quarantine.tallies["events"]
            refused = {"duplicate": repeated, **events.refused}
            quarantine.record("events", replace(events, refused=dict(sorted(refused.items()))))
        quarantine.check("events", raw["events"])
        return quarantine


def check_users(
    config: SequencesConfig, docs: DataDocs, user_ids: DataFrame, total: int, users: DataFrame
) -> None:
    """Count those of the log's `total` distinct `user_ids` without a row in `users`.

    Raises ContractError: their share is above `max_unknown_users`.
    """
    strangers = user_ids.join(users.select("user_id"), "user_id", "left_anti")
    unknown = strangers.agg(F.count("*"), F.min("user_id")).collect()[0]
    docs.counts["Users of the log"] = {"users": total, "without a row in users": unknown[0]}
    log.info(f"{unknown[0]:,} of {total:,} users of the log have no row in users")
    if unknown[0] > config.max_unknown_users * total:
        example = users.agg(F.min("user_id")).collect()[0][0]
        raise ContractError(
            f"{unknown[0]:,} of {total:,} users of the log have no row in the table users, more than "
            f"max_unknown_users={config.max_unknown_users:g}: the log has {unknown[1]!r}, "
            f"users has {example!r}; do both write ids alike, with their leading zeros? Bring the profiles, "
            "or raise max_unknown_users"
        )


def read_raw(
    spark: SparkSession, config: SequencesConfig, found: Mapping[str, Source]
) -> dict[str, DataFrame]:
    """Return the tables of `found` in the contract's types, with every row's `fault`; see `read`."""
    raw = {
        table: read(spark, source, config.null_words)
        for table, source in found.items()
        if not config.sources.of(table).from_events
    }
    for table, key in (("users", "user_id"), ("items", "item_id")):
        if table not in raw:
            raw[table] = ids_of(raw["events"], table, key)
    latest = parse_time("latest", config.latest) if config.latest else datetime.now(UTC) + timedelta(days=1)
    for table, key in (("users", "user_id"), ("items", "item_id")):
        raw[table] = faults.keyed_faults(raw[table], key)
    raw["events"] = faults.event_faults(
        raw["events"],
        latest,
        faults.valid_rows(raw["items"]).select("item_id"),
        faults.valid_rows(raw["users"]).select("user_id") if config.unknown_users == "quarantine" else None,
        config.null_words,
    )
    if "exposures" in raw:
        raw["exposures"] = faults.exposure_faults(raw["exposures"], latest)
    return raw


def check_raw(
    config: SequencesConfig,
    raw: Mapping[str, DataFrame],
    found: Mapping[str, Source],
    docs: DataDocs,
    counted: Collection[str] = TABLES,
) -> Quarantine:
    """Return counts of the `counted` tables' refused rows; the contracts' findings go to `docs`.

    Other tables are counted by a later pass, or here if their contract is broken.
    Raises ContractError: too many faulty rows, or a critical expectation failed.
    """
    quarantine = Quarantine(docs, config.max_quarantine_share)
    for table, frame in raw.items():
        if table in counted:
            quarantine.count(found[table], frame)
        try:
            shown = frame.drop(PLACE, UNREAD)
            check(docs, f"raw_{table}", shown, {"clean_share": 1 - config.max_quarantine_share})
        except ContractError:
            if table not in counted:
                quarantine.count(found[table], frame)
            raise
        log.info(f"{table}: contract holds")
    return quarantine
