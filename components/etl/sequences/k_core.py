"""The k-core of the user-item graph: what published data sets call "5-core"."""

from pyspark.sql import DataFrame


def k_core(events: DataFrame, k: int) -> DataFrame:
    """Return the k-core: each user has at least `k` distinct items, each item `k` users.

    The result may be empty. Rows are in no particular order.
    """
    pairs = events.select("user_id", "item_id").distinct().localCheckpoint()
    before, remaining = -1, pairs.count()
    while remaining != before:
        before = remaining
        for key in ("user_id", "item_id"):
            enough = pairs.groupBy(key).count().where(f"count >= {int(k)}").select(key)
            pairs = pairs.join(enough, key, "left_semi")
        # Cuts the plan, which would otherwise grow with every round.
        pairs = pairs.localCheckpoint()
        remaining = pairs.count()
    return events.join(pairs, ["user_id", "item_id"], "left_semi")
