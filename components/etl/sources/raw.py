"""The raw tables of a data folder: read, faults named, contracts checked, refused rows counted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from components.etl.config import SequencesConfig
from components.etl.contracts import SAMPLE_CHARS, SAMPLES, DataDocs, check, data_docs
from components.etl.outputs import seen_by_executors
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
        samples = "; sample rows: " + " ".join(
            f"[{row.reason}] {row.row[:SAMPLE_CHARS]}" for row in rows_shown
        )
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
    if not config.is_local:
        return Folder.at(seen_by_executors(config, data, "give the raw tables as an s3:// URI"))
    if not is_remote(data):
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
        with persisted(raw):
            quarantine = check_raw(config, raw, found, docs)
            counted = groups(raw["events"]).collect()
            quarantine.record("events", tally(found["events"], counted, repeats=_repeats(raw["events"])))
            quarantine.check("events", raw["events"])
            in_the_log = raw["events"].where("coalesce(fault, 'unknown_item') = 'unknown_item'")
            for key, table in (("user_id", "users"), ("item_id", "items")):
                ids, rows = in_the_log.select(key).distinct(), faults.valid_rows(raw[table])
                check_ids(config, docs, key, ids.join(rows.select(key), key, "left_anti"), ids.count, rows)
            return quarantine


def _repeats(events: DataFrame) -> list[Row]:
    """Return number, first place and row of repeated events."""
    key = ("user_id", "item_id", "action", "timestamp")
    same = events.where(F.col(faults.FAULT).isNull()).groupBy(*key)
    repeats = same.agg((F.count("*") - 1).alias("count"), F.max(PLACE).alias(PLACE)).where("count > 0")
    row = F.min_by(F.to_json(F.struct(*key)), PLACE).alias(faults.ROW)
    found = repeats.agg(F.sum("count").alias("count"), F.min(PLACE).alias(PLACE), row).collect()
    return [group for group in found if group["count"]]


def check_ids(
    config: SequencesConfig,
    docs: DataDocs,
    key: str,
    strangers: DataFrame,
    total: Callable[[], int],
    rows: DataFrame,
) -> None:
    """Report how many ids of the log have no row in users or items.

    `strangers` are those, distinct values of `key`, `rows` the table's. `total` gives the number of the log's
    ids, and is called if there are strangers.
    Raises ContractError: their share is above `max_unknown_users` or `max_unknown_items`.
    """
    table = key.replace("_id", "s")
    unknown, example = strangers.agg(F.count("*"), F.min(key)).collect()[0]
    number = total() if unknown else 0
    share = f"{unknown:,} of {number:,} {table} of the log ({unknown / number:.1%})" if unknown else "0"
    docs.counts[f"Ids of the log in {table}"] = {"without a row": unknown} | (
        {"with a row": number - unknown} if unknown else {}
    )
    log.info(f"{table} without a row in the table {table}: {share}")
    limit = getattr(config, f"max_unknown_{table}")
    if unknown > limit * number:
        other = rows.agg(F.min(key)).collect()[0][0]
        raise ContractError(
            f"{share} have no row in the table {table}, more than max_unknown_{table}={limit:g}: the log has "
            f"{example!r}, {table} has {other!r}; do both write ids alike, with their leading zeros? "
            f"Bring the rows, or raise max_unknown_{table}"
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


@contextmanager
def persisted(raw: Mapping[str, DataFrame]) -> Iterator[None]:
    """Let Spark keep users and items within the block, once they are computed."""
    # Half a dozen passes need them, each of which would read the files and group the rows by key again.
    frames = [raw[table].persist() for table in ("users", "items")]
    try:
        yield
    finally:
        for frame in frames:
            frame.unpersist()


def check_raw(
    config: SequencesConfig,
    raw: Mapping[str, DataFrame],
    found: Mapping[str, Source],
    docs: DataDocs,
) -> Quarantine:
    """Return counts of the tables' refused rows; the contracts' findings go to `docs`.

    Events are counted by a later pass, or here if their contract is broken.
    Raises ContractError: too many faulty rows, or a critical expectation failed.
    """
    quarantine = Quarantine(docs, config.max_quarantine_share)
    for table, frame in raw.items():
        if table != "events":
            quarantine.count(found[table], frame)
        try:
            shown = frame.drop(PLACE, UNREAD)
            check(docs, f"raw_{table}", shown, {"clean_share": 1 - config.max_quarantine_share})
        except ContractError:
            if table == "events":
                quarantine.count(found[table], frame)
            raise
        log.info(f"{table}: contract holds")
    return quarantine
