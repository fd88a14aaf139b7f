"""A version answers by vLLM as by transformers, with the code that it carries."""

from pathlib import Path

import mlflow
import pandas as pd
import pytest

from components.register import packaging
from components.shared.prompting.settings import ServingConfig

SEEN = {"item_id": "i03", "actions": ["view"], "timestamp": "2026-01-01T09:00Z"}


@pytest.mark.verl
@pytest.mark.slow
def test_a_version_answers_by_either_engine(
    model_for_vllm: Path, served_folder: Path, vllm_on_cpu: None, tmp_path: Path
) -> None:
    parts = {"model": model_for_vllm, "retriever": served_folder}
    built = packaging.build(parts, ServingConfig(dtype="float32", max_new_tokens=40), tmp_path)
    asked = pd.DataFrame({"history": [[SEEN], [], [SEEN | {"item_id": "i05"}]], "now": "2026-01-03"})
    answers = [
        mlflow.pyfunc.load_model(str(built), model_config={"engine": engine}).predict(asked)
        for engine in ("transformers", "vllm")
    ]
    assert answers[0]["valid"].all()
    pd.testing.assert_frame_equal(*answers)
