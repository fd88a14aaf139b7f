"""Tables behind a real S3 server: read and written with the right secret, refused with a wrong one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.etl.config import SequencesConfig
from components.etl.sources.raw import validate_raw
from components.shared.artifacts.storage import upload
from components.shared.errors import DataError
from tests.components.shared.artifacts.s3_server import mounted, serving

ROOT = Path(__file__).resolve().parents[3]
STEPS = Path(__file__).parent / "remote_steps.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(server, sample_folder, monkeypatch):
    """Upload the sample log; point the environment at the server."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.upload(sample_folder, "logs", "day")


@pytest.mark.slow
def test_s3_gives_the_tables_that_the_folder_gives(bucket, prepared, run_step, tmp_path):
    run_step(bucket, tmp_path)
    for name in ("sequences", "catalogue", "users"):
        for file in (prepared.folder / name).glob("*.parquet"):
            assert (tmp_path / name / file.name).read_bytes() == file.read_bytes()


def test_a_wrong_secret_and_a_missing_prefix_are_named(bucket, monkeypatch, spark_config, tmp_path):
    config = SequencesConfig(spark=spark_config)
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match=r"s3://logs/nowhere"):
        validate_raw(config, "s3://logs/nowhere", tmp_path / "docs.html")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    with pytest.raises(DataError, match=r"cannot be read .*AWS_SECRET_ACCESS_KEY"):
        validate_raw(config, bucket, tmp_path / "docs.html")
    with pytest.raises(DataError, match=r"cannot be written .*AWS_SECRET_ACCESS_KEY"):
        upload(tmp_path / "file", f"{bucket}/file")
    assert os.environ["AWS_ACCESS_KEY_ID"]


# Executors in processes of their own read s3a:// and write s3://. Hadoop's S3 client is on no Python index:
# here Hadoop's proxy of the local disk answers for s3a, and finds the same server's bucket mounted there.
SPARK = {
    "master": "local-cluster[2,1,1024]",
    "memory": "1g",
    "shuffle_partitions": 2,
    "conf": {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.hadoop.fs.s3a.impl": "org.apache.hadoop.fs.ProxyLocalFileSystem",
    },
}


@pytest.mark.slow
def test_executors_read_and_write_object_storage(
    server, prepared, run_prompts_step, tiny_model_folder, tmp_path
):
    lake = tmp_path / "lake"
    prefix = str(lake).lstrip("/")
    server.upload(prepared.data, "lake", f"{prefix}/data")
    server.upload(prepared.folder / "candidates", "lake", f"{prefix}/candidates")
    server.upload(tiny_model_folder, "lake", f"{prefix}/model")
    run_prompts_step(prepared.folder, tiny_model_folder, tmp_path)
    with mounted(server, "lake", lake):
        done = subprocess.run(
            [sys.executable, STEPS, f"s3://lake/{prefix}", json.dumps(SPARK)],
            cwd=ROOT,
            env={**os.environ, **server.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, (done.stderr.rpartition("Traceback")[2] or done.stderr)[:6000]
        for name in ("sequences", "catalogue", "users", "exposures", "quarantine", "prompts"):
            written = sorted((lake / name).rglob("*"))
            folder = tmp_path if name == "prompts" else prepared.folder
            expected = sorted((folder / name).iterdir())
            assert [f.name for f in written] == [f.name for f in expected]
            assert [f.read_bytes() for f in written] == [f.read_bytes() for f in expected]
        assert not (lake / "staging").exists()
