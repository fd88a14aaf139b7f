"""What the train part knew of an item before a request: its users, their actions, and its neighbours."""

from bisect import bisect_left
from collections import Counter
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
SHOWN_IF_ASKED = {
    "description": "string",
    "days": "array<struct<day:int,count:int>>",
    "done": "array<struct<day:int,action:string,count:int>>",
}
"""What `with_facts` puts into the catalogue, null where no fact needs it, and its type."""


def with_facts(catalogue: DataFrame, sequences: DataFrame, config: PromptsConfig) -> DataFrame:
    """Return the catalogue with SHOWN_IF_ASKED.

    `days` are an item's train interactions by day, `done` the events on it by day and action.
    """
    asked, found = {*config.item_facts}, {}
    if {"users", "last"} & asked:
        places = (F.slice(name, F.lit(1), F.col("train_end")) for name in ("item_ids", "timestamps"))
        met = sequences.select(F.explode(F.arrays_zip(*places)).alias("met")).select(
            F.col("met.0").alias("item_id"), _day(F.col("met.1")).alias("day")
        )
        found["days"] = _counted(met, "item_id")
    if "actions" in asked:
        of_train = F.expr("filter(events, event -> event.position < train_end)")
        done = sequences.select("item_ids", F.explode(of_train).alias("event")).select(
            F.expr("item_ids[event.position]").alias("item_id"),
            _day(F.col("event.timestamp")).alias("day"),
            F.col("event.action").alias("action"),
        )
        found["done"] = _counted(done, "item_id", each=("day", "action")).withColumnRenamed("days", "done")
    for table in found.values():
        catalogue = catalogue.join(table, "item_id", "left")
    known = {*found, *({"description"} & asked)}
    unasked = {name: F.lit(None).cast(kind) for name, kind in SHOWN_IF_ASKED.items() if name not in known}
    return catalogue.withColumns(unasked)


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


def _counted(rows: DataFrame, *key: str, each: Sequence[str] = ("day",)) -> DataFrame:
    """Return per `key` the sorted `days` of `rows`: `each` with the number of its rows."""
    daily = rows.groupBy(*key, *each).agg(F.count("*").cast("int").alias("count"))
    return daily.groupBy(*key).agg(F.sort_array(F.collect_list(F.struct(*each, "count"))).alias("days"))


def facts_at(
    now: datetime, item: Mapping[str, Any], together: Sequence[Mapping[str, int]]
) -> tuple[dict[str, Any], datetime]:
    """Return the statistics of `item` at `now`, and the end of the last day counted.

    Only days before that of `now` count.
    """
    today = (now - EPOCH) // DAY
    days, done = (before(item.get(name) or [], today) for name in ("days", "done"))
    beside = before(together, today)
    actions: Counter[str] = Counter()
    for day in done:
        if day["day"] >= today - FACT_DAYS:
            actions[day["action"]] += day["count"]
    numbers: dict[str, Any] = {
        "users": sum(day["count"] for day in days if day["day"] >= today - FACT_DAYS),
        "actions": actions,
    }
    if days:
        numbers["last"] = today - days[-1]["day"]
    if beside:
        numbers["together"] = sum(day["count"] for day in beside)
    latest = max((counted[-1]["day"] for counted in (days, done, beside) if counted), default=-1)
    return numbers, EPOCH + DAY * (latest + 1)


def before(days: Sequence[Mapping[str, Any]], today: int) -> Sequence[Mapping[str, Any]]:
    """Return the part of the sorted `days` before the day `today`."""
    return days[: bisect_left(days, today, key=lambda day: day["day"])]
