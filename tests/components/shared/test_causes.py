"""One line says why: the exception's own message, never a line from the middle of a stack trace."""

import subprocess
import sys

import pytest

from components.shared import causes
from components.shared.errors import DataError

JAVA = """\
An error occurred while calling o74.parquet.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 1 times
\tat org.apache.spark.util.SparkThreadUtils$.awaitResult(SparkThreadUtils.scala:53)
Caused by: org.apache.spark.SparkException: [CANNOT_READ_FILE_FOOTER] Could not read footer. SQLSTATE: KD001
\tat org.apache.spark.sql.errors.QueryExecutionErrors$.x(QueryExecutionErrors.scala:1120)
\t... 15 more
Caused by: java.lang.RuntimeException: /data/garbage.parquet is not a Parquet file (length is too low: 11)
\tat org.apache.parquet.hadoop.ParquetFileReader.readFooter(ParquetFileReader.java:611)
\t... 14 more
"""
WORKER = """
  An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "worker.py", line 11, in bad
    def bad(x): raise ValueError("row is bad: 7")
                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: row is bad: 7
"""
RDD = """\
An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: org.apache.spark.PythonException: Traceback (most recent call last):
  File "worker.py", line 3386, in main
ValueError: row is bad: 7

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handle(PythonRunner.scala:645)
Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler$.abort(DAGScheduler.scala:2935)
"""
LOADING = "Error(s) in loading state_dict for Llama:\n\tsize mismatch for embed\n\tsize mismatch for head"
ANALYSIS = "[TABLE_NOT_FOUND] The table `x` cannot be found.\nIf you did not …\n'Project\n+- 'Unresolved"

RAY = "ray.exceptions.RayTaskError(ValueError): ray::f() (pid=7)\n  File 'y'\nValueError: no rows"


class Py4JJavaError(Exception):
    """Stands for py4j's, which only a running Java raises."""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        pytest.param(KeyError("x"), "KeyError: 'x'", id="plain"),
        pytest.param(RuntimeError(), "RuntimeError", id="no message"),
        pytest.param(DataError("a\n- b"), "a\n- b", id="written for people: whole"),
        pytest.param(
            Py4JJavaError(JAVA),
            "RuntimeException: /data/garbage.parquet is not a Parquet file (length is too low: 11)",
            id="Java's root cause",
        ),
        pytest.param(
            Py4JJavaError("\n".join(JAVA.splitlines()[:3])),
            "SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 1 times",
            id="Java without a root cause",
        ),
        pytest.param(RuntimeError(WORKER), "ValueError: row is bad: 7", id="a Python worker's"),
        pytest.param(Py4JJavaError(RDD), "ValueError: row is bad: 7", id="Python within Java"),
        pytest.param(
            RuntimeError(LOADING),
            "RuntimeError: Error(s) in loading state_dict for Llama: size mismatch for embed",
            id="a list",
        ),
        pytest.param(
            ValueError(ANALYSIS), "ValueError: [TABLE_NOT_FOUND] The table `x` cannot be found.", id="plan"
        ),
        pytest.param(ValueError("x" * 9999), f"ValueError: {'x' * 500} …", id="too long"),
    ],
)
def test_the_cause_of_an_exception(error: BaseException, cause: str) -> None:
    assert causes.of_exception(error) == cause


PROGRAM = """
def inner():
    raise KeyError("first")
try:
    inner()
except KeyError as error:
    raise {raised} from error
"""


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        pytest.param("OSError(28, 'No space left')", "OSError: [Errno 28] No space left", id="chained"),
        pytest.param(
            "ExceptionGroup('many', [ValueError('a'), TypeError('b')])", "ExceptionGroup: many (2", id="group"
        ),
        pytest.param("ModuleNotFoundError('No module x')", "ModuleNotFoundError: No module x", id="import"),
        pytest.param(f"RuntimeError({WORKER!r})", "ValueError: row is bad: 7", id="a worker's"),
        pytest.param(
            f"type('Py4JJavaError', (Exception,), {{}})({JAVA!r})", "RuntimeException: /data", id="Java"
        ),
        pytest.param("ValueError('columns:\\n- age\\n- city')", "ValueError: columns: - age", id="a list"),
    ],
)
@pytest.mark.parametrize("indent", ["", "    "])
def test_the_cause_at_the_end_of_a_log(raised: str, cause: str, indent: str) -> None:
    """As kfp.local prints it, indented, and as a pod does."""
    command = [sys.executable, "-c", PROGRAM.format(raised=raised)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    log = ["12:00 - INFO - Executing", *(indent + line for line in ["reading", *printed.splitlines()]), ""]
    assert causes.within(log).startswith(cause)


@pytest.mark.parametrize(
    "before", ["2026-07-01T09:59:5{} ", "\x1b[36m(Worker pid={})\x1b[0m "], ids=["time", "ray"]
)
def test_the_cause_behind_what_stands_before_each_line(before: str) -> None:
    lines = f"Traceback (most recent call last):\n  File 'x'\n{RAY}".splitlines()
    log = [before.format(number) + line for number, line in enumerate(lines)]
    assert causes.within([*log[:2], "(Other pid=3) steps: 7", *log[2:], "Killed"]) == "ValueError: no rows"


def test_a_log_without_a_stack_trace_has_no_cause() -> None:
    assert causes.within(["reading", "Killed"]) == causes.within([]) == ""
