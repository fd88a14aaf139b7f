"""Finding a Java, and Spark on the one that travels in a wheel."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.errors import PySparkException

from components.shared.errors import OutputError
from components.shared.spark import java
from components.shared.spark import session as spark

ROOT = Path(__file__).resolve().parents[4]


def test_the_shim_drops_the_missing_module_and_keeps_the_rest(tmp_path):
    program = tmp_path / "runtime/bin/java"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    home = java.shim_home(tmp_path / "runtime")
    arguments = ["-cp", "a b", "--add-modules=jdk.incubator.vector", "Main", "$x"]
    printed = subprocess.run(
        [home / "bin/java", *arguments], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == ["-cp", "a b", "Main", "$x"]


def test_too_old_a_java_is_passed_over(tmp_path, monkeypatch):
    program = tmp_path / "bin/java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.java_home() != tmp_path


@pytest.mark.slow
def test_spark_runs_on_the_java_of_the_wheel():
    code = (
        "from components.shared.spark.config import SparkConfig\n"
        "from components.shared.spark import java, session\n"
        "java._installed = lambda: []\n"
        "s = session.session(SparkConfig(master='local[1]', memory='512m'), 'wheel')\n"
        "print(s.range(9).mapInArrow(lambda b: b, 'id long').count())\n"
        "print(s.conf.get('spark.sql.session.timeZone'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["9", "UTC"], done.stderr


@pytest.mark.slow
def test_a_configuration_that_spark_refuses_is_named():
    code = (
        "from components.shared.spark.config import SparkConfig\n"
        "from components.shared.spark.session import session\n"
        "from components.shared.errors import ConfigError\n"
        "try:\n"
        "    session(SparkConfig(master='nonsense'), 'refused')\n"
        "except ConfigError as error:\n"
        "    print('refused:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "refused: Spark did not start on master 'nonsense'" in done.stdout, done.stderr


def test_a_collector_of_ones_own_is_the_only_one():
    from components.shared.spark.config import SparkConfig

    own = SparkConfig(conf={"spark.driver.extraJavaOptions": "-XX:+UseG1GC"})
    assert "ParallelGC" in spark._java_options(SparkConfig())
    assert "ParallelGC" not in spark._java_options(own)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_error_of_the_output(number):
    cause = PySparkException(f"Job aborted: java.io.IOException: {os.strerror(number)}")
    with pytest.raises(OutputError, match="the input: the disk is full"), spark.readable("the input"):
        raise cause


def test_other_errors_pass_through():
    with pytest.raises(KeyError), spark.readable("x"):
        raise KeyError("bug")
