"""A Kubernetes API server with nothing behind it: it admits, refuses and remembers objects, and runs none."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.k8s.manifests import KUBECTL, Manifest

TOKEN = "admin-of-this-test"


class ApiServer:
    """An administrator's access to a server."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.flags = [f"--server={url}", f"--token={TOKEN}", f"--certificate-authority={certificate}"]
        eventually(lambda: self.kubectl("get", "--raw", "/readyz"), 120)
        settings = kubernetes.client.Configuration()
        settings.host, settings.ssl_ca_cert = url, str(certificate)
        settings.api_key = {"authorization": f"Bearer {TOKEN}"}
        self.client = kubernetes.client.ApiClient(settings)

    def kubectl(self, *words: str, manifests: Iterable[Manifest] = ()) -> str:
        """Return what kubectl prints. Raises: what it complains about."""
        command = [KUBECTL, *self.flags, *words]
        text = yaml.safe_dump_all(manifests)
        done = subprocess.run(command, capture_output=True, text=True, input=text, cwd="/", env={"HOME": "/"})
        if done.returncode or "Warning" in done.stderr:
            raise RuntimeError(done.stderr)
        return done.stdout

    def apply(self, manifests: Iterable[Manifest], *options: str) -> str:
        """Apply manifests on the server's side; unknown fields and warnings are errors."""
        return self.kubectl("apply", "--server-side", "--filename=-", *options, manifests=manifests)

    def admit(self, namespace: str, pod: Manifest) -> None:
        """Ask for a pod that nobody keeps. Raises ApiException: the server refuses it."""
        kubernetes.client.CoreV1Api(self.client).create_namespaced_pod(
            namespace, pod, dry_run="All", field_validation="Strict"
        )

    def refusal(self, namespace: str, pod: Manifest) -> str:
        """Return why the server refuses a pod. Raises: it does not."""
        try:
            self.admit(namespace, pod)
        except kubernetes.client.ApiException as refused:
            return str(refused.body)
        raise AssertionError("the pod was admitted")


@contextmanager
def running(folder: Path, assets: Path) -> Iterator[ApiServer]:
    """Yield a server of the kube-apiserver and etcd in `assets` (envtest's convention)."""
    store, peers, port = (_free_port() for _ in range(3))
    etcd = [
        *(assets / "etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync", "--log-level=error"),
        *(f"--{kind}-client-urls=http://127.0.0.1:{store}" for kind in ("listen", "advertise")),
        *(f"--{kind}-peer-urls=http://127.0.0.1:{peers}" for kind in ("listen", "initial-advertise")),
        f"--initial-cluster=default=http://127.0.0.1:{peers}",
    ]
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "sa.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    api = [
        *(assets / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{store}", f"--secure-port={port}"),
        *("--bind-address=127.0.0.1", f"--cert-dir={folder}", f"--token-auth-file={folder}/tokens.csv"),
        *("--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc"),
        *(f"--service-account-{use}-file={folder}/sa.key" for use in ("key", "signing-key")),
        # Without controllers, nobody gives pods the token that this plugin mounts.
        *("--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount"),
    ]
    with _process(etcd, folder / "etcd.log"), _process(api, folder / "kube-apiserver.log"):
        yield ApiServer(f"https://127.0.0.1:{port}", folder / "apiserver.crt")


def eventually(ask: Callable[[], object], seconds: float = 30) -> None:
    """Wait until `ask` raises nothing. Raises: its last error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            ask()
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


@contextmanager
def _process(command: list[object], log: Path) -> Iterator[None]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent)}
    with log.open("w") as output:
        process = subprocess.Popen([*map(str, command)], stdout=output, stderr=output, env=environment)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
