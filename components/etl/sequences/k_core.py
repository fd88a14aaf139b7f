"""The k-core of the user-item graph: what published data sets call "5-core"."""

from pyspark.sql import DataFrame


def k_core(events: DataFrame, k: int) -> DataFrame:
    """Return the events of users with at least `k` distinct items and items with at least `k` distinct users.

    Repeated to the fixed point, so both hold for what is left (which may be nothing). Each round counts
    both sides of the distinct pairs, one small shuffle a side; only the number of pairs left comes to the
    driver. Events keep their columns; the order of rows is not kept.
    """
    pairs = events.select("user_id", "item_id").distinct().localCheckpoint()
    before, left = -1, pairs.count()
    while left != before:
        before = left
        for key in ("user_id", "item_id"):
            enough = pairs.groupBy(key).count().where(f"count >= {int(k)}").select(key)
            pairs = pairs.join(enough, key, "left_semi")
        # Cuts the plan, which would otherwise grow with every round.
        pairs = pairs.localCheckpoint()
        left = pairs.count()
    return events.join(pairs, ["user_id", "item_id"], "left_semi")
