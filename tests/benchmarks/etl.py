"""Measure the sequences step: events per second and peak memory, beside the same tables by polars.

    python tests/benchmarks/etl.py 1_000_000 5_000_000 20_000_000 [--repeats 3] [--memory 4g]

For each size a log is generated (in a temporary folder), the step runs without its contracts ("transform")
and with them ("step"), and polars computes the same tables on two threads in memory; each run is a process
of its own, start-up included, and the engines take turns. Prints medians, and the slopes of time over events
from size to size (1.0 is linear; below it, the start still counts).
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
EVENTS_A_USER = 36.5  # of the generator's defaults, in a large catalogue


def main() -> None:
    """Run every size and print a line per run."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("sizes", nargs="+", type=lambda text: int(text.replace("_", "")))
    options.add_argument("--memory", default="4g")
    options.add_argument("--repeats", type=int, default=1)
    options.add_argument("--engines", default="polars,transform,step", help="which of these three to run")
    chosen = options.parse_args()
    medians: dict[str, list[float]] = {engine: [] for engine in chosen.engines.split(",")}
    for size in chosen.sizes:
        with tempfile.TemporaryDirectory(prefix="recllm-benchmark-") as scratch:
            data = Path(scratch) / "data"
            _child("generate", data, data, size, chosen)
            seconds: dict[str, list[float]] = {engine: [] for engine in medians}
            for _ in range(chosen.repeats):
                for engine in medians:
                    out = Path(scratch) / engine
                    seconds[engine].append(_child(engine, data, out, size, chosen)["seconds"])
                    shutil.rmtree(out)
        for engine, times in seconds.items():
            medians[engine].append(statistics.median(times))
        _conclude(size, medians)
    for number, (small, large) in enumerate(pairwise(chosen.sizes)):
        for engine, times in medians.items():
            slope = math.log(times[number + 1] / times[number]) / math.log(large / small)
            print(f"{small:,} to {large:,} events, {engine}: slope {slope:.2f}")


def _conclude(size: int, medians: dict[str, list[float]]) -> None:
    listed = ", ".join(f"{engine} {times[-1]:.1f} s" for engine, times in medians.items())
    print(f"{size:>12,} events  medians: {listed}", flush=True)
    if {"polars", "transform"} <= set(medians):
        ratio = medians["polars"][-1] / medians["transform"][-1]
        print(f"{size:>12,} events: transform runs at {ratio:.2f} of polars", flush=True)


def _child(engine: str, data: Path, out: Path, size: int, chosen: argparse.Namespace) -> dict:
    task = {"engine": engine, "data": str(data), "out": str(out), "size": size, "memory": chosen.memory}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "2"}
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak = _PeakMemory(process.pid)
    lines = [line for line in process.stdout or [] if line.startswith("{")]
    if process.wait():
        raise SystemExit(f"{engine} failed at {size:,} events")
    result = json.loads(lines[-1])
    rate = result["events"] / result["seconds"]
    print(
        f"{size:>12,} events  {engine:<10} {result['seconds']:7.1f} s  {rate:>10,.0f} events/s  "
        f"peak {peak.stop() / 2**20:,.0f} MiB",
        flush=True,
    )
    return result


class _PeakMemory(threading.Thread):
    """The largest sum of proportional memory over a process and its children, sampled from /proc."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peak, self._running = pid, 0, True
        self.start()

    def run(self) -> None:
        while self._running:
            self._peak = max(self._peak, sum(map(_proportional, _family(self._pid))))
            time.sleep(0.5)

    def stop(self) -> int:
        self._running = False
        return self._peak


def _family(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(pid for child in children for pid in _family(child))]


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def run_task(task: dict) -> None:
    """Run one engine in this process and print seconds and events as JSON."""
    started = time.perf_counter()
    events = ENGINES[task["engine"]](task)
    print(json.dumps({"seconds": time.perf_counter() - started, "events": events}))


def _generate(task: dict) -> int:
    from pipelines.datasets.synthetic.config import SampleConfig
    from pipelines.datasets.synthetic.log import generate

    users = round(task["size"] / EVENTS_A_USER)
    config = SampleConfig(users=users, items=max(1000, users // 5), exposures=False)
    generate(config, Path(task["data"]))
    return pq.read_metadata(Path(task["data"]) / "events.parquet").num_rows


def _spark(task: dict, contracts: bool) -> int:
    from components.etl.config import SequencesConfig
    from components.etl.sequences import job
    from components.etl.sources.raw import Quarantine
    from components.etl.sources.tally import Tally
    from components.shared.spark.config import SparkConfig

    if not contracts:  # as polars: no expectations, no counts of faulty users and items

        def count_rows(config, raw, found, docs):
            names = [name for name in raw if name != "events"]
            rows = {n: pq.read_metadata(Path(task["data"]) / f"{n}.parquet").num_rows for n in names}
            return Quarantine(docs, max_share=1, tallies={n: Tally(count, {}) for n, count in rows.items()})

        job.check_raw = count_rows
        job.check = lambda *_: None
    spark = SparkConfig(master="local[2]", memory=task["memory"], quick_start=task["size"] < 3_000_000)
    config = SequencesConfig(spark=spark)
    out = Path(task["out"])
    folders = {name: out / name for name in ("sequences", "catalogue", "users", "exposures", "quarantine")}
    report = job.run_sequences(config, task["data"], **folders, page=out / "docs.html")
    return report.events_kept


def _polars(task: dict) -> int:
    import polars as pl

    from components.etl.config import ACTION_WEIGHTS

    data, out = Path(task["data"]), Path(task["out"])
    out.mkdir()
    events = pl.scan_parquet(data / "events.parquet")
    items = pl.scan_parquet(data / "items.parquet")
    order = ["user_id", "timestamp", "ordinal", "item_id", "action", "dwell_seconds"]
    flagged = events.join(items.select("item_id", known=True), on="item_id", how="left").with_columns(
        valid=(pl.col("timestamp").dt.epoch("us") >= 0)
        & pl.col("action").is_in(list(ACTION_WEIGHTS))
        & pl.col("known").fill_null(False)
    )
    flagged.filter(~pl.col("valid")).select(row=pl.struct(order).struct.json_encode()).sink_parquet(
        out / "quarantine.parquet"
    )
    clean = (
        flagged.filter("valid")
        .sort(order)
        .unique(["user_id", "item_id", "action", "timestamp"], keep="first", maintain_order=True)
        .with_columns(
            strength=pl.col("action").replace_strict(ACTION_WEIGHTS, return_dtype=pl.Float64)
            + (pl.col("dwell_seconds").fill_null(0.0) / 60).clip(0, 1)
        )
        .collect()
    )
    firsts = (
        clean.group_by("user_id", "item_id", maintain_order=True)
        .agg(pl.col("timestamp").first(), pl.col("strength").sum())
        .with_columns(position=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id"))
    )
    nested = clean.join(
        firsts.select("user_id", "item_id", "position"), on=["user_id", "item_id"], how="left"
    )
    logs = nested.group_by("user_id", maintain_order=True).agg(
        events=pl.struct("position", "action", "timestamp", "dwell_seconds")
    )
    sequences = (
        firsts.group_by("user_id", maintain_order=True)
        .agg(item_ids="item_id", timestamps="timestamp", engagement="strength")
        .filter(pl.col("item_ids").list.len() >= 5)
        .with_columns(
            train_end=pl.col("item_ids").list.len().cast(pl.Int32) - 2,
            valid_end=pl.col("item_ids").list.len().cast(pl.Int32) - 1,
        )
        .join(logs, on="user_id", how="left")
    )
    sequences.write_parquet(out / "sequences.parquet")
    counts = (
        sequences.lazy()
        .select(pl.col("item_ids").list.head(pl.col("train_end")))
        .explode("item_ids")
        .group_by("item_ids")
        .len()
    )
    items.join(counts, left_on="item_id", right_on="item_ids", how="left").collect().write_parquet(
        out / "items.parquet"
    )
    users = pl.scan_parquet(data / "users.parquet").unique("user_id", keep="first")
    missing = sequences.lazy().select("user_id").join(users, on="user_id", how="anti")
    everyone = pl.concat([users, missing], how="diagonal").sort("user_id")
    everyone.collect().write_parquet(out / "users.parquet")
    return int(sequences["events"].list.len().sum())


ENGINES = {
    "generate": _generate,
    "polars": _polars,
    "transform": lambda task: _spark(task, contracts=False),
    "step": lambda task: _spark(task, contracts=True),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        run_task(json.loads(sys.argv[2]))
    else:
        main()
