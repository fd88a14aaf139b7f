"""What the train part knew of an item before a request: users, the latest of them, and its neighbours."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from components.etl.config import PromptsConfig
from components.shared.prompting.render import FACT_DAYS

WINDOW = 3
"""Distance in a history at which two items still stand together, as in the blend of `retrieve`."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = "array<struct<day:int,count:int>>"


def with_days(catalogue: DataFrame, sequences: DataFrame, config: PromptsConfig) -> DataFrame:
    """Return the catalogue with `days`, (day, count) of an item's train interactions if asked for."""
    if not {"users", "last"} & {*config.item_facts}:
        return catalogue.withColumn("days", F.lit(None).cast(DAYS))
    rows = F.arrays_zip(*(F.slice(name, F.lit(1), F.col("train_end")) for name in ("item_ids", "timestamps")))
    met = sequences.select(F.explode(rows).alias("met")).select(
        F.col("met.0").alias("item_id"), _day(F.col("met.1")).alias("day")
    )
    return catalogue.join(_counted(met, "item_id"), "item_id", "left")


def together_days(cases: DataFrame, sequences: DataFrame) -> DataFrame:
    """Return per case `together`: (item_id, days) of the candidates that stood near its latest item."""
    near = F.expr(
        "flatten(transform(sequence(0, train_end - 2), i -> transform("
        f"sequence(i + 1, least(i + {WINDOW}, train_end - 1)), "
        "j -> struct(item_ids[i] as a, item_ids[j] as b, timestamps[j] as time))))"
    )
    pairs = sequences.where("train_end > 1").select(F.explode(near).alias("pair"))
    one, other = (
        pairs.select(
            F.col(f"pair.{first}").alias("latest"),
            F.col(f"pair.{second}").alias("item_id"),
            _day(F.col("pair.time")).alias("day"),
        )
        for first, second in ("ab", "ba")
    )
    key = ("user_id", "split", "position")
    asked = cases.where("position > 0").select(
        *key,
        F.element_at("item_ids", F.col("position")).alias("latest"),
        F.explode("candidates").alias("item_id"),
    )
    found = asked.join(_counted(one.unionByName(other), "latest", "item_id"), ["latest", "item_id"])
    return found.groupBy(*key).agg(F.collect_list(F.struct("item_id", "days")).alias("together"))


def _day(time: Column) -> Column:
    return F.floor(F.unix_seconds(time) / 86_400).cast("int")


def _counted(rows: DataFrame, *key: str) -> DataFrame:
    """Return per `key` the sorted `days` of `rows`, each with the number of its rows."""
    daily = rows.groupBy(*key, "day").agg(F.count("*").cast("int").alias("count"))
    return daily.groupBy(*key).agg(F.sort_array(F.collect_list(F.struct("day", "count"))).alias("days"))


def facts_at(
    now: datetime, item: Mapping[str, Any], together: Sequence[Mapping[str, int]]
) -> tuple[dict[str, int], datetime]:
    """Return the statistics of `item` at `now`, and the end of the last day counted.

    Only days before that of `now` count.
    """
    today = (now - EPOCH) // DAY
    days, beside = before(item.get("days") or [], today), before(together, today)
    numbers = {"users": sum(day["count"] for day in days if day["day"] >= today - FACT_DAYS)}
    if days:
        numbers["last"] = today - days[-1]["day"]
    if beside:
        numbers["together"] = sum(day["count"] for day in beside)
    latest = max((counted[-1]["day"] for counted in (days, beside) if counted), default=-1)
    return numbers, EPOCH + DAY * (latest + 1)


def before(days: Sequence[Mapping[str, int]], today: int) -> Sequence[Mapping[str, int]]:
    """Return the part of the sorted `days` before the day `today`."""
    return days[: bisect_left(days, today, key=lambda day: day["day"])]
