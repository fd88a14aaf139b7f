"""One Spark session, built the same way on a laptop without Java and on a cluster."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from components.shared.artifacts.storage import original, scratch_folder
from components.shared.errors import ConfigError, DataError, OutputError, names_full_disk
from components.shared.spark import java, kubernetes
from components.shared.spark.config import SparkConfig

BATCH_ROWS = 65_536  # rows of an Arrow batch between the JVM and Python

_UNREADABLE = re.compile(r"(?:while reading file|Could not read (?:footer for|or parse) file:?) (\S+?)\.? ")
LOG_SETTINGS = """rootLogger = error, console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
appender.pods.type = Console
appender.pods.name = pods
appender.pods.target = SYSTEM_ERR
appender.pods.layout.type = PatternLayout
appender.pods.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m %ex{short.message}%n
logger.pods.name = org.apache.spark.scheduler.cluster.k8s
logger.pods.level = warn
logger.pods.additivity = false
logger.pods.appenderRef.pods.ref = pods
"""


def session(config: SparkConfig, name: str) -> SparkSession:
    """Return the process's Spark session, starting it on the first call.

    A running session keeps its master and memory: these are fixed when the JVM starts.
    Raises ConfigError: no usable Java, Spark refuses the configuration, or no executor's pod starts.
    """
    starting = SparkSession.getActiveSession() is None
    pod = kubernetes.own_pod() if starting and config.master.startswith(kubernetes.PREFIX) else None
    if starting:
        _prepare_environment(config)
    builder = SparkSession.builder.appName(name).master(config.master)
    executors = kubernetes.executor_settings(pod) if pod else {}
    settings = {**_defaults(config), **executors, **config.conf}
    if starting:
        settings["spark.driver.extraJavaOptions"] = _java_options(config)
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        causes = re.findall(r"^(?:Caused by)?: (.+)", str(error), re.MULTILINE) or str(error).splitlines()
        raise ConfigError(
            f"Spark did not start on master {config.master!r} with memory {config.memory!r}: "
            f"{causes[-1]}; check spark.master, spark.memory and spark.conf"
        ) from error
    if pod:
        kubernetes.wait_for_executor(spark, pod)
    return spark


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn Spark's errors about `source` into errors that a user can act on.

    Raises DataError: a file is unreadable. Raises OutputError: a disk is full.
    """
    try:
        yield
    except (Py4JJavaError, PySparkException, OSError) as error:
        text = str(error)
        if names_full_disk(text):
            raise OutputError(
                f"{source}: the disk is full; free some space, or set spark.local.dir in "
                "spark.conf to a larger disk"
            ) from error
        if found := _UNREADABLE.search(text):
            path = original(re.sub("^file:/+", "/", unquote(found[1])))
            cause = text.rpartition("Caused by: ")[2].splitlines()[0]
            raise DataError(
                f"{path}: unreadable or cut off ({cause}); export or download it again"
            ) from error
        raise


def _defaults(config: SparkConfig) -> dict[str, str]:
    settings = {
        "spark.driver.memory": config.memory,
        "spark.sql.shuffle.partitions": str(config.shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # A Parquet time without a zone is read as UTC, not refused.
        "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
        "spark.sql.legacy.parquet.nanosAsLong": "true",  # refused otherwise; pandas writes them
        "spark.ui.showConsoleProgress": "false",
    }
    if config.is_local:
        settings |= {
            "spark.ui.enabled": "false",
            # With Spark's 128 MiB, one of a few cores works on the last piece of a file alone.
            "spark.sql.files.maxPartitionBytes": "32m",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "spark-warehouse"),
        }
    elif endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        # Hadoop's client takes keys from the environment, but not the endpoint.
        settings |= {
            "spark.hadoop.fs.s3a.endpoint": endpoint,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https")).lower(),
        }
    return settings


def _prepare_environment(config: SparkConfig) -> None:
    os.environ["JAVA_HOME"] = str(java.java_home())
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if config.is_local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Python workers import this project's modules from wherever the driver found them.
    root = str(Path(__file__).resolve().parents[3])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, paths)])


def _java_options(config: SparkConfig) -> str:
    own = config.conf.get("spark.driver.extraJavaOptions", "")
    file = scratch_folder() / "log4j2.properties"
    file.write_text(LOG_SETTINGS)
    options = [f"-Dlog4j2.configurationFile=file:{file}"]
    if not re.search(r"-XX:\+Use\w+GC", own):
        options.append("-XX:+UseParallelGC")  # throughput counts here, pauses do not
    if config.quick_start:
        options.append("-XX:TieredStopAtLevel=1")
    return " ".join([*options, own])
