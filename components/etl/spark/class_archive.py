"""Make the archive of Spark's classes that lets every later session start in half the time.

    python -m components.etl.spark.class_archive

A small log is read, checked row by row, joined, shuffled and written by Python workers; the JVM writes the
classes that this took to a file of some 150 MB as it ends.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from components.etl.spark.java import class_archive
from components.shared.artifacts.outputs import atomic_file

WORK = """
import sys
from pathlib import Path
from pyspark import SparkContext
from components.etl import faults, java, raw
from components.etl.config import SampleConfig, SequencesConfig, SparkConfig
from components.etl.generator.log import generate
from components.etl.parts import read_parts, write_parts
from components.etl.spark import session
from data_contracts.tables import EVENTS

scratch, archive = Path(sys.argv[1]), sys.argv[2]
java.class_archive = lambda: scratch / "none"  # the classes of an old archive would be left out of a new one
generate(SampleConfig(users=40, items=60, dirty_share=0.02), scratch / "data")
conf = {"spark.driver.extraJavaOptions": f"-XX:ArchiveClassesAtExit={archive} -Xlog:disable"}
spark = session(SparkConfig(master="local[2]", memory="1g", conf=conf), "archive")
with raw.located(SequencesConfig(), str(scratch / "data")) as found:
    events = raw.read_raw(spark, SequencesConfig(), found).events
by_user = faults.clean(events).repartition(2, "user_id").sortWithinPartitions("user_id", "timestamp")
(scratch / "events").mkdir()
write_parts(by_user, EVENTS, scratch / "events")
read_parts(spark, scratch / "events", EVENTS).groupBy("action").count().collect()
jvm = SparkContext._gateway
spark.stop()
jvm.shutdown()
jvm.proc.stdin.close()  # its end is what the JVM waits for
jvm.proc.wait(timeout=300)
"""


def build(archive: Path) -> Path | None:
    """Write the archive to `archive`, whole or not at all; None where this JVM does not write one."""
    try:
        with (
            atomic_file(archive) as partial,
            tempfile.TemporaryDirectory(prefix="recllm-archive-") as scratch,
        ):
            command = [sys.executable, "-c", WORK, scratch, str(partial)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (subprocess.SubprocessError, FileNotFoundError) as error:
        told = getattr(error, "stderr", None) or str(error)
        print(f"no archive of Spark's classes: {told[-500:]}", flush=True)
        return None
    return archive


if __name__ == "__main__":
    build(class_archive())
