"""Spark for tables of a few dozen rows."""

from components.shared.spark.config import SparkConfig

# To generate and compile code takes a third of the time of a test, and pays from some ten thousand rows on.
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
SPARK = SparkConfig(master="local[2]", memory="1g", shuffle_partitions=2, conf=INTERPRETED)
