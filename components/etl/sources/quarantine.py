"""Counts of refused rows, and the error that stops a run with too many."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame

from components.etl.sources.faults import FAULT, faulty_rows
from components.shared.errors import ContractError, DataError

SAMPLES = 5


@dataclass
class Quarantine:
    """Rows read and refused (by reason) per raw table; `max_share` of a table's rows may be refused."""

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

    def record(self, table: str, rows: int, reasons: Mapping[str, int]) -> None:
        """Record the counts of `table`: all rows, and refused rows by reason."""
        self.rows[table], self.reasons[table] = rows, dict(reasons)

    def check(self, table: str, frame: DataFrame) -> None:
        """Raise ContractError, with sample rows of `frame`, if more than `max_share` are refused."""
        refused, rows = sum(self.reasons[table].values()), self.rows[table]
        if refused <= self.max_share * rows:
            return
        rows_shown = faulty_rows(table, frame).limit(SAMPLES).collect()
        samples = "; sample rows: " + " ".join(f"[{row.reason}] {row.row}" for row in rows_shown)
        listed = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons[table].items())
        raise ContractError(
            f"contract 'raw_{table}' is broken: expect_column_values_to_be_null(column='fault', "
            f"mostly={1 - self.max_share:g}): {refused:,} of {rows:,} rows are faulty "
            f"({listed}), more than max_quarantine_share={self.max_share:g}{samples if rows_shown else ''}; "
            "correct the export, or raise max_quarantine_share"
        )

    def sections(self) -> dict[str, dict[str, int]]:
        """Return counts by heading, for the data docs."""
        return {
            f"Table {table}": {
                "rows read": self.rows[table],
                **{f"refused: {k}": v for k, v in found.items()},
            }
            for table, found in self.reasons.items()
        }
