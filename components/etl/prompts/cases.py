"""Which prompts there are: the candidates joined with sequences, their labels, and the seeded sample."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from components.etl.config import PromptsConfig


def label_cases(config: PromptsConfig, sequences: DataFrame, candidates: DataFrame) -> DataFrame:
    """Return one row per prompt: columns of both tables, `label_positions`, `retrieved` (a label is listed).

    A training prompt has the one label at its position; a validation or test prompt has the first
    `answer_length` items of its window from there on with engagement of at least `label_min_engagement`,
    and the item at its position if none is that strong.
    """
    position, valid_end = F.col("position"), F.col("valid_end")
    listed = (F.col("item_ids").alias("candidates"), F.col("scores"), F.col("teacher"))
    queries = candidates.select("user_id", "split", "position", "fold", *listed)
    window = F.when(F.col("split") == "valid", valid_end).when(F.col("split") == "test", F.size("item_ids"))
    end = F.greatest(window, position + 1)  # null, which `greatest` skips, for training prompts
    settings = config.labels
    strong = F.filter(
        F.sequence(position, end - 1), lambda p: _at("engagement", p) >= settings.min_engagement
    )
    first = F.slice(strong, 1, settings.most)
    labels = F.when(F.size(first) > 0, first).otherwise(F.array(position))
    items = F.transform(F.col("label_positions"), lambda p: _at("item_ids", p))
    joined = queries.join(sequences, "user_id").where(position < F.size("item_ids"))
    return joined.withColumn("label_positions", labels).withColumn(
        "retrieved", F.arrays_overlap(items, F.col("candidates"))
    )


def _at(column: str, index: Column) -> Column:
    return F.element_at(F.col(column), index.cast("int") + 1)


def keys_of(cases: DataFrame) -> DataFrame:
    """Return the columns that tell cases apart and decide which are sampled."""
    return cases.select("user_id", "split", "position", "retrieved")


def count_train(keys: DataFrame) -> tuple[int, int]:
    """Return the number of training cases, and of those without a label among the candidates."""
    train = keys.where(F.col("split") == "train")
    row = train.agg(F.count("*"), F.count_if(~F.col("retrieved"))).collect()[0]
    return row[0], row[1]


def sample_cases(config: PromptsConfig, cases: DataFrame, keys: DataFrame) -> DataFrame:
    """Return a sample per split: the cases with the smallest seeded hashes; `keys` are theirs."""
    sizes = {"train": config.train_prompts, "valid": config.valid_prompts, "test": config.test_prompts}
    chosen = F.lit(False)
    for split, size in sizes.items():
        wanted = F.col("split") == split
        if split == "train" and config.unretrieved == "drop":
            wanted &= F.col("retrieved")
        if size:
            # Train may have many cases per user: a sample of whole users would hold fewer of them.
            key = ("user_id", "position") if split == "train" else ("user_id",)
            lot = F.xxhash64(F.lit(config.seed), F.lit(split), *key)
            # The largest hash that belongs to the sample is found by hashes alone: to sort and limit the
            # cases would send whole histories, `size` of every task, through a single one.
            smallest = keys.where(wanted).select(lot.alias("lot")).orderBy("lot").limit(size)
            wanted &= lot <= F.lit(smallest.agg(F.max("lot")).collect()[0][0])
        chosen |= wanted
    return cases.where(chosen)
