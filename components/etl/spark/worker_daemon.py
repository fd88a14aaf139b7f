"""Spark's Python daemon, started without the archives that Spark puts on the module path.

Spark's jar and its zipped Python sources stand on every worker's path. Python 3.11 reads their whole
directories again at the start of every task (`importlib.invalidate_caches`): 0.15 s a task, more than many
a task's work. The installed pyspark serves as well.
"""

import gc
import sys
from importlib.machinery import PathFinder
from pathlib import PurePath

SPARKS_OWN = ("pyspark.zip", "py4j-", "spark-core_")


def main() -> None:
    """Serve as `pyspark.daemon` does; the session names this module in spark.python.daemon.module."""
    kept = [path for path in sys.path if not PurePath(path).name.startswith(SPARKS_OWN)]
    if PathFinder.find_spec("pyspark", kept):
        for path in set(sys.path) - set(kept):
            sys.path_importer_cache.pop(path, None)
        sys.path[:] = kept
    import pandas  # noqa: F401 - tasks need both: loaded once, before workers are forked
    import pyarrow.compute  # noqa: F401
    from pyspark import daemon

    gc.freeze()  # Spark collects garbage after every task; what is loaded by now is none
    daemon.manager()


if __name__ == "__main__":
    main()
