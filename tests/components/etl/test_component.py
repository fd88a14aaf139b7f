"""The KFP wrappers, called as Kubeflow would call them."""

import json

from kfp.dsl import HTML, Dataset, Metrics, Model

from components.etl import component
from components.etl.config import PromptsConfig, SequencesConfig
from components.shared.config import to_json


def test_sequences_then_prompts(prepared, spark_config, tiny_model_folder, tmp_path):
    def at(kind, name):
        return kind(name=name, uri=str(tmp_path / name))

    names = ("sequences", "catalogue", "users", "exposures", "quarantine")
    out = {name: at(Dataset, name) for name in names}
    out |= {"data_docs": at(HTML, "docs.html"), "metrics": at(Metrics, "metrics.json")}
    config = to_json(SequencesConfig(partitions=2, spark=spark_config))
    component.sequences.python_func(config=config, data=str(prepared.data), fingerprint="x", **out)
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["users"] == len(prepared.table("sequences")) == out["metrics"].metadata["users"]

    prompts = {
        "prompts": at(Dataset, "prompts"),
        "data_docs": at(HTML, "p.html"),
        "metrics": at(Metrics, "p.json"),
    }
    component.prompts.python_func(
        config=to_json(PromptsConfig(spark=spark_config, valid_prompts=5, max_prompt_tokens=600)),
        fingerprint="x",
        candidates=Dataset(uri=str(prepared.folder / "candidates")),
        base_model=Model(uri=str(tiny_model_folder)),
        **{name: out[name] for name in ("sequences", "catalogue", "users")},
        **prompts,
    )
    assert json.loads((tmp_path / "p.json").read_text())["valid"] == 5
    assert sorted(p.name for p in (tmp_path / "prompts").iterdir()) == [
        f"{s}.parquet" for s in ("test", "train", "valid")
    ]
