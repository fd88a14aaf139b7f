"""Where the steps' tables lie, here and on a cluster."""

from pathlib import Path

import pytest
from kfp.dsl import Dataset

from components.etl.config import SequencesConfig
from components.etl.outputs import inputs, outputs
from components.etl.sources.raw import locate_tables
from components.shared.errors import ConfigError
from components.shared.spark.config import SparkConfig
from components.shared.spark.parts import atomic_table

HERE, CLUSTER = SparkConfig(), SparkConfig(master="k8s://https://kubernetes.default.svc")


def test_executors_elsewhere_read_and_write_the_uri(tmp_path):
    stored = Dataset(uri="s3://lake/run/tables")
    assert outputs(CLUSTER, stored)["users"] == "s3://lake/run/tables/users"
    assert outputs(HERE, stored)["users"] == f"{stored.path}/users"
    tables = {"users": "s3://lake/run/tables/users", "items": "s3://lake/other"}
    assert inputs(CLUSTER, tables, "users") == {"users": "s3://lake/run/tables/users"}
    assert inputs(HERE, {"users": str(tmp_path)}, "users") == {"users": tmp_path}
    with pytest.raises(ConfigError, match="give the pipeline an s3:// root"):
        outputs(CLUSTER, Dataset(uri=str(tmp_path)))
    with pytest.raises(ConfigError, match="give the pipeline an s3:// root"):
        inputs(CLUSTER, {"users": str(tmp_path)}, "users")


def test_executors_elsewhere_cannot_see_raw_tables_of_this_machine(tmp_path):
    with pytest.raises(ConfigError, match="give the raw tables as an s3:// URI"):
        locate_tables(SequencesConfig(spark=CLUSTER), str(tmp_path))


@pytest.mark.parametrize(
    ("master", "is_local"),
    [("local", True), ("local[*]", True), ("local-cluster[2,1,1024]", False), ("spark://host:7077", False)],
)
def test_only_one_process_is_local(master, is_local):
    assert SparkConfig(master=master).is_local is is_local


def test_a_local_table_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), atomic_table(tmp_path / "table") as folder:
        (Path(folder) / "part").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with atomic_table(tmp_path / "table") as folder:
        (Path(folder) / "part").touch()
    assert [file.name for file in (tmp_path / "table").iterdir()] == ["part"]
