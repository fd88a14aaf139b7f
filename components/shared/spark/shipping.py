"""Folders that every task reads: a model, a tokenizer, a retriever."""

import shutil
from collections.abc import Callable
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from components.shared.artifacts.storage import scratch_folder
from components.shared.spark.config import SparkConfig


def within_tasks(
    spark: SparkSession, config: SparkConfig, folder: Path, endings: tuple[str, ...] = ("",)
) -> Callable[[], str]:
    """Return a function that gives a task `folder` on its machine.

    Executors on other machines get a copy of the files with these `endings`, those of its folders too.
    """
    if config.is_local:
        return lambda: str(folder)
    scratch = scratch_folder()
    name = scratch.name  # unlike that of any other folder that this session ships
    for file in folder.rglob("*"):
        if file.is_file() and file.name.endswith(endings):
            copy = scratch / "files" / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    spark.sparkContext.addArchive(
        f"{shutil.make_archive(str(scratch / name), 'zip', scratch / 'files')}#{name}"
    )
    return lambda: SparkFiles.get(name)
