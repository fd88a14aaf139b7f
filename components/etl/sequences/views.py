"""Flat views of the nested tables for their contracts, by native expressions."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def sequences_view(sequences: DataFrame) -> DataFrame:
    """Return user_id, items, train_end, whether lists are aligned, distinct, ordered, ends in order, tied."""
    items, times = F.size("item_ids"), F.col("timestamps")
    later = F.slice(times, F.lit(2), F.greatest(items - 1, F.lit(0)))
    earlier = F.slice(times, F.lit(1), F.greatest(items - 1, F.lit(0)))
    return sequences.select(
        "user_id",
        items.alias("items"),
        "train_end",
        ((F.size("timestamps") == items) & (F.size("engagement") == items)).alias("aligned"),
        _distinct("item_ids").alias("distinct"),
        F.forall(F.zip_with(earlier, later, lambda a, b: a <= b), lambda rises: rises).alias("ordered"),
        ((F.col("train_end") <= F.col("valid_end")) & (F.col("valid_end") <= items)).alias("ends_in_order"),
        # Null for users without a test label, or without a history.
        (F.get(times, F.col("valid_end")) == F.get(times, F.col("valid_end") - 1)).alias("tied"),
    )


def candidates_view(candidates: DataFrame) -> DataFrame:
    """Return user_id, split, position, the number of candidates, whether they are distinct and scored."""
    return candidates.select(
        "user_id",
        "split",
        "position",
        F.size("item_ids").alias("candidates"),
        _distinct("item_ids").alias("distinct"),
        (F.size("scores") == F.size("item_ids")).alias("aligned"),
    )


def prompts_view(prompts: DataFrame) -> DataFrame:
    """Return the columns of the prompts contract, a row per prompt."""
    candidates = F.size(prompts["candidates"])  # not the view's column of that name
    due = (F.col("split") == "train") & ((F.size("labels") > 0) | F.col("teacher").isNotNull())
    return prompts.select(
        "split",
        "user_id",
        F.size("messages").alias("messages"),
        F.length(F.element_at("messages", -1)["content"]).alias("prompt_chars"),
        candidates.alias("candidates"),
        F.size("label_items").alias("label_items"),
        F.array_min("labels").alias("smallest_label"),
        F.forall("labels", lambda n: n <= candidates).alias("labels_in_range"),
        (
            (F.size("tags") == candidates)
            & (F.size("novelty") == candidates)
            & (F.size("scores") == candidates)
            & (F.size("titles") == candidates)
            & (F.size("seen") == candidates)
            & (F.size("age_days") == candidates)
            & (F.size("label_items") == F.size("label_weights"))
        ).alias("aligned"),
        F.array_min("label_weights").alias("smallest_weight"),
        _distinct("candidates").alias("distinct"),
        (F.col("completion").isNotNull() == due).alias("completion_where_due"),
    )


def _distinct(items: Column | str) -> Column:
    return F.size(F.array_distinct(items)) == F.size(items)
