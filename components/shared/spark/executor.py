"""An executor's process in a pod of the step's image: `python -m components.shared.spark.executor`.

What the entry point of Spark's own image does; images built on Spark's wheel have none.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pyspark.find_spark_home import _find_spark_home

from components.shared.spark.java import java_home

OPTION = "SPARK_JAVA_OPT_"


def command(environment: Mapping[str, str], java: Path, spark: str) -> list[str]:
    """Return the command that Spark's driver describes in the pod's `environment`."""
    numbers = sorted(int(name.removeprefix(OPTION)) for name in environment if name.startswith(OPTION))
    arguments = {
        "driver-url": "DRIVER_URL",
        "executor-id": "EXECUTOR_ID",
        "cores": "EXECUTOR_CORES",
        "app-id": "APPLICATION_ID",
        "hostname": "EXECUTOR_POD_IP",
        "resourceProfileId": "RESOURCE_PROFILE_ID",
        "podName": "EXECUTOR_POD_NAME",
    }
    return [
        str(java / "bin/java"),
        *(environment[f"{OPTION}{number}"] for number in numbers),
        f"-Xms{environment['SPARK_EXECUTOR_MEMORY']}",
        f"-Xmx{environment['SPARK_EXECUTOR_MEMORY']}",
        "-cp",
        f"{spark}/jars/*",
        "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend",
        *(text for name, key in arguments.items() for text in (f"--{name}", environment[f"SPARK_{key}"])),
    ]


if __name__ == "__main__":
    words = command(os.environ, java_home(), _find_spark_home())
    os.execv(words[0], words)
