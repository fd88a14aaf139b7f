"""Both data steps on executors of their own: `python remote_steps.py LAKE SPARK`.

LAKE is an s3:// URI with the folders `data`, `candidates` and `model`, and receives the tables; SPARK is a
SparkConfig as JSON.
"""

import json
import sys

from components.etl.config import PromptsConfig, SequencesConfig
from components.etl.prompts.job import run_prompts
from components.etl.sequences.job import run_sequences
from components.shared.artifacts.storage import local_copy, scratch_folder, upload
from components.shared.config import from_mapping
from components.shared.spark.config import SparkConfig

lake, spark = sys.argv[1], from_mapping(SparkConfig, json.loads(sys.argv[2]), "spark")
out = scratch_folder()
places = {name: f"{lake}/{name}" for name in ("sequences", "catalogue", "users", "exposures", "quarantine")}
run_sequences(SequencesConfig(partitions=2, spark=spark), f"{lake}/data", **places, page=out / "docs.html")
del places["exposures"], places["quarantine"]
run_prompts(
    PromptsConfig(valid_prompts=10, spark=spark),
    **places,
    candidates=f"{lake}/candidates",
    base_model=local_copy(f"{lake}/model"),
    prompts=out / "prompts",
    page=out / "docs.html",
    staging=f"{lake}/staging",
)
for file in (out / "prompts").iterdir():
    upload(file, f"{lake}/prompts/{file.name}")
