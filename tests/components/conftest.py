"""What several rooms read: a hand-made evaluation report, and a registry."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.evaluation import (
    METRICS,
    AnswerStatistics,
    Comparator,
    Difference,
    EvaluationReport,
    Interval,
    Kind,
    Sample,
)

KINDS: dict[str, Kind] = {"popularity": "conventional", "sasrec": "conventional", "champion": "champion"}


def comparator(name: str, ndcg: float, valid_share: float = 1.0) -> Comparator:
    kind = KINDS.get(name, "llm")
    answers = AnswerStatistics(
        valid_share=valid_share,
        duplicate_share=0.0,
        truncated_share=0.0,
        constant_share=0.1,
        seconds_per_user=0.5,
        tokens_per_user=40.0,
    )
    return Comparator(
        name=name,
        kind=kind,
        metrics=dict.fromkeys(METRICS, 0.5) | {"ndcg@10": ndcg},
        ndcg_at_10_interval=Interval(low=ndcg - 0.02, high=ndcg + 0.02),
        answers=None if kind == "conventional" else answers,
    )


def difference(model: str, baseline: str, mean: float, low: float, high: float) -> Difference:
    return Difference(model=model, baseline=baseline, metric="ndcg@10", mean=mean, low=low, high=high)


@pytest.fixture(scope="session")
def make_report() -> Callable[..., EvaluationReport]:
    """Popularity 0.10, SASRec 0.15, base 0.14, GRPO 0.20, which beats all of them; fields can be replaced."""

    def make(**replaced: Any) -> EvaluationReport:
        fields: dict[str, Any] = {
            "comparators": (
                comparator("popularity", 0.10),
                comparator("sasrec", 0.15),
                comparator("base", 0.14),
                comparator("grpo", 0.20),
            ),
            "differences": (
                difference("grpo", "popularity", 0.10, 0.05, 0.15),
                difference("grpo", "sasrec", 0.05, 0.01, 0.09),
                difference("grpo", "base", 0.06, 0.02, 0.10),
            ),
            "sample": Sample(
                split="test",
                users=100,
                users_available=400,
                seed=0,
                candidates=15.0,
                recall_ceiling=0.4,
                catalogue_items=900,
                confidence=0.95,
                bootstrap_samples=2000,
            ),
            "lineage": {"run_key": "run-1", "data": {"fingerprint": "abc"}},
        }
        return EvaluationReport(**(fields | replaced))

    return make


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry set up once, which takes seconds; every test that asks for `tracking_uri` copies it."""
    from components.shared.tracking.mlflow_client import connect

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = connect(f"sqlite:///{path}", create=True)
    client.search_registered_models()
    return path


@pytest.fixture
def tracking_uri(fresh_database: Path, tmp_path: Path) -> str:
    shutil.copyfile(fresh_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
