"""Measure a registered model behind `recllm serve`: time and processor time of its answers.

    python tests/benchmarks/serve.py --model models:/recllm-r1@champion --requests 100

starts the server on a free port and sends requests one after the other, with `--at-once` several
at a time: for scored answers, then, of a version that can generate, for reasoned ones. Local runs have
`MLFLOW_TRACKING_URI=sqlite:///runs/mlflow.db`. Each request has the history of a new user: `--history`
items of the version's own catalogue. Processor time says what an answer costs beside other work.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pyarrow.parquet as pq
import requests
from mlflow.artifacts import download_artifacts

from components.shared.language_model.ranker import Ranker

START_SECONDS = 300


@contextmanager
def serving(model: str, cwd: Path | None = None, answer: str = "reasoned") -> Iterator[str]:
    """Yield the address of a server of `model` that runs in `cwd`, stopped at the end.

    `answer` is that of ServingConfig.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--model", model, "--answer", answer]
    process = subprocess.Popen([*command, "--port", str(port)], cwd=cwd, start_new_session=True)
    address, started = f"http://127.0.0.1:{port}", time.monotonic()
    try:
        while time.monotonic() - started < START_SECONDS and process.poll() is None:
            try:
                if requests.get(f"{address}/ping", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 15)  # the server's workers too
        process.wait(30)


def processor_seconds() -> float:
    """Return what the server and its workers have computed so far."""
    times = (process.cpu_times() for process in psutil.Process().children(recursive=True))
    return sum(used.user + used.system for used in times)


def main() -> None:
    """Serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="an MLflow URI or the folder of a model")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--history", type=int, default=20, help="items of each history")
    parser.add_argument("--at-once", type=int, default=1, help="requests in flight")
    options = parser.parse_args()
    folder = Path(download_artifacts(options.model))
    packaged = mlflow.models.Model.load(str(folder)).flavors["python_function"]["artifacts"]
    items = pq.read_table(folder / packaged["retriever"]["path"] / "items.parquet")["item_id"].to_pylist()
    generator = np.random.default_rng(0)

    def ask(address: str, number: int) -> float:
        """Return the seconds that request `number` takes."""
        chosen = generator.choice(items, min(options.history, len(items) // 2), replace=False)
        seen = [
            {"item_id": i, "actions": ["view"], "timestamp": "2026-01-01T00:00Z"} for i in chosen.tolist()
        ]
        started = time.monotonic()
        answered = requests.post(
            f"{address}/invocations", json={"dataframe_records": [{"history": seen}]}, timeout=600
        )
        answered.raise_for_status()
        return time.monotonic() - started

    generates = Ranker.read(folder / packaged["model"]["path"]).answers == "generate"
    for answer in ("scored", "reasoned") if generates else ("scored",):
        with (
            serving(str(folder), answer=answer) as address,
            ThreadPoolExecutor(options.at_once) as pool,
        ):
            ask(address, 0)
            started, worked = time.monotonic(), processor_seconds()
            seconds = list(pool.map(lambda number: ask(address, number), range(options.requests)))
            rate = options.requests / (time.monotonic() - started)
            worked = (processor_seconds() - worked) / options.requests
        p50, p95 = np.quantile(seconds, [0.5, 0.95])
        print(f"{answer}, {options.requests} requests, {options.at_once} at once: ", end="")
        print(f"p50 {p50:.3f} s, p95 {p95:.3f} s, {rate:.2f} a second, {worked:.2f} processor seconds each")


if __name__ == "__main__":
    main()
