"""The KFP wrappers, called as Kubeflow would call them."""

import json

import pyarrow.parquet as pq
from kfp.dsl import HTML, Dataset, Model

from components.etl import component
from components.etl.config import PromptsConfig, SequencesConfig
from components.etl.outputs import TABLES
from components.shared.config import to_parameter


def test_sequences_then_prompts(prepared, spark_config, tiny_model_folder, tmp_path):
    def at(kind, name):
        return kind(name=name, uri=str(tmp_path / name))

    component.sequences.python_func(
        config=to_parameter(SequencesConfig(partitions=2, spark=spark_config)),
        data=str(prepared.data),
        as_of="",
        fingerprint="x",
        sequences=at(Dataset, "sequences"),
        page=at(HTML, "docs.html"),
        tables_so_far=str(tmp_path / "tables.json"),
    )
    tables = json.loads((tmp_path / "tables.json").read_text())
    assert {path.name for path in (tmp_path / "sequences").iterdir()} == set(tables) == set(TABLES)
    assert pq.read_table(tables["sequences"]).num_rows == len(prepared.table("sequences"))

    component.prompts.python_func(
        config=to_parameter(PromptsConfig(spark=spark_config, valid_prompts=5, max_prompt_tokens=600)),
        fingerprint="x",
        tables={**tables, "candidates": str(prepared.folder / "candidates")},
        base_model=Model(uri=str(tiny_model_folder)),
        prompts=at(Dataset, "prompts"),
        page=at(HTML, "p.html"),
        tables_so_far=str(tmp_path / "all.json"),
    )
    assert pq.read_table(tmp_path / "prompts" / "valid.parquet").num_rows == 5
    written = sorted(path.name for path in (tmp_path / "prompts").iterdir())
    assert written == [f"{split}.parquet" for split in ("test", "train", "valid")]
    assert json.loads((tmp_path / "all.json").read_text())["prompts"] == str(tmp_path / "prompts")
