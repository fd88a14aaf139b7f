"""Histories up to now: the rows of one partition, in as many as the events need."""

import pyarrow as pa
import pyarrow.parquet as pq

from components.etl.config import SequencesConfig
from components.etl.sequences import job
from components.etl.sequences.histories import run_histories
from tests.small_spark import SPARK


def test_partitions_follow_the_events_and_change_no_history(sample_folder, tmp_path, monkeypatch):
    found = {}
    events = pq.read_metadata(sample_folder / "events.parquet").num_rows
    monkeypatch.setattr(job, "PART_ROWS", -(-events // 6))
    for partitions, files in ((1, 1), (0, 6)):
        config = SequencesConfig(spark=SPARK, partitions=partitions)
        out = {name: tmp_path / f"{name} {files}" for name in ("histories", "users")}
        report = run_histories(config, str(sample_folder), **out, page=tmp_path / "docs.html")
        parts = [pq.read_table(file) for file in sorted(out["histories"].iterdir())]
        assert len(parts) == files and all(len(part) for part in parts)
        found[files] = report, pa.concat_tables(parts).sort_by("user_id").to_pylist()
    assert found[1] == found[6]
    assert found[1][0].users == len(found[1][1]) == 60
