"""The KFP wrappers, called as Kubeflow would call them."""

import json

from kfp.dsl import HTML, Dataset, Metrics, Model

from components.etl import component
from components.etl.config import PromptsConfig, SequencesConfig
from components.etl.outputs import TABLES
from components.shared.config import to_parameter


def test_sequences_then_prompts(prepared, spark_config, tiny_model_folder, tmp_path):
    def at(kind, name):
        return kind(name=name, uri=str(tmp_path / name))

    metrics = at(Metrics, "metrics.json")
    component.sequences.python_func(
        config=to_parameter(SequencesConfig(partitions=2, spark=spark_config)),
        data=str(prepared.data),
        as_of="",
        fingerprint="x",
        tables=at(Dataset, "tables"),
        page=at(HTML, "docs.html"),
        metrics=metrics,
        uri=str(tmp_path / "uri"),
    )
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["users"] == len(prepared.table("sequences")) == metrics.metadata["users"]
    assert {path.name for path in (tmp_path / "tables").iterdir()} == set(TABLES)

    component.prompts.python_func(
        config=to_parameter(PromptsConfig(spark=spark_config, valid_prompts=5, max_prompt_tokens=600)),
        fingerprint="x",
        sequences=(tmp_path / "uri").read_text(),
        retrieved=str(prepared.folder),
        base_model=Model(uri=str(tiny_model_folder)),
        prompts=at(Dataset, "prompts"),
        page=at(HTML, "p.html"),
        metrics=at(Metrics, "p.json"),
        uri=str(tmp_path / "prompts-uri"),
    )
    assert json.loads((tmp_path / "p.json").read_text())["valid"] == 5
    written = sorted(path.name for path in (tmp_path / "prompts").iterdir())
    assert written == [f"{split}.parquet" for split in ("test", "train", "valid")]
    assert (tmp_path / "prompts-uri").read_text() == str(tmp_path / "prompts")
