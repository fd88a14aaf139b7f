"""Fixtures that more than one room uses."""

import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from data_contracts.evaluation import (
    AnswerStatistics,
    Comparator,
    Difference,
    EvaluationReport,
    Interval,
    Kind,
    Sample,
)
from data_contracts.metrics import METRICS

# Else a rare draw, or a slow machine, fails what nobody has changed.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

# ranx compiles with numba when it is called: a minute, for a few lists.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


def _stack(context: int = 1) -> list[inspect.FrameInfo]:
    """Return the callers' frames without their source lines."""
    frame, found = sys._getframe(1), []
    while frame:
        code = frame.f_code
        found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return found


# KFP asks for its caller's name a hundred times a pipeline. Python looks for the source of every frame, of
# those without a file in all modules: ten seconds a compilation, where thousands are imported.
inspect.stack = _stack


HEAVY = (
    "pipelines/test_run.py",
    "benchmarks/test_smoke.py",
    "fuzz/test_tables.py",
    "components/serve/test_recommend.py",
    "components/register/test_registry.py",
    "components/test_kill.py",
    "components/register/test_faults.py",
    "components/etl/sources/test_kinds.py",
)
"""Files that take minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the heavy files, so that two processes end at about the same time."""

    def position(item: pytest.Item) -> int:
        name = str(item.path.relative_to(Path(__file__).parent))
        return HEAVY.index(name) if name in HEAVY else len(HEAVY)

    items.sort(key=position)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised model of two small layers with a real tokenizer and chat template."""
    from components.base_model.config import BaseModelConfig, RandomWeights
    from components.base_model.job import run

    folder = tmp_path_factory.mktemp("models") / "tiny"
    run(BaseModelConfig(random_weights=RandomWeights(hidden_size=32)), folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Raw tables of one user, as CSV."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "users.csv").write_text("user_id\nu1\n")
    (folder / "items.csv").write_text("item_id,title\ni1,Tea\n")
    (folder / "events.csv").write_text("user_id,item_id,action,timestamp\nu1,i1,view,2026-01-01\n")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public datasets that RECLLM_DATA names; a test that needs it is skipped without."""
    folder = Path(os.environ.get("RECLLM_DATA", ""))
    if not os.environ.get("RECLLM_DATA") or not folder.is_dir():
        pytest.skip("set RECLLM_DATA to a folder with the public datasets")
    return folder


TOPICS = ("tea", "chess", "jazz", "hiking")


@pytest.fixture(scope="session")
def prompts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompts table of six candidates each, whose label is the candidate on the latest topic."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_contracts.tables import PROMPTS, SPLITS

    folder = tmp_path_factory.mktemp("prompts")
    for split, size in zip(SPLITS, (16, 6, 8), strict=True):
        rows = [_prompt_row(index, split) for index in range(size)]
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), folder / f"{split}.parquet")
    return folder


def _prompt_row(index: int, split: str) -> dict[str, Any]:
    from components.shared.prompting.render import Candidate, Interaction, PromptInput, completion, messages

    now, latest = datetime(2026, 1, 10, tzinfo=UTC), TOPICS[index % 4]
    topics = [TOPICS[(index + shift) % 4] for shift in (1, 2, 3, 1, 2, 3)]
    label = index * 5 % 6 + 1
    topics[label - 1] = latest
    prompt = PromptInput(
        profile={"age": 20 + index},
        history=[
            Interaction(title=f"H{n}", topic=topic, actions=["view"], timestamp=now - timedelta(days=3 - n))
            for n, topic in enumerate((TOPICS[(index + 2) % 4], latest))
        ],
        interests=[],
        candidates=[Candidate(title=f"T{n}", topic=topic) for n, topic in enumerate(topics)],
        now=now,
        answer_length=3,
    )
    return {
        "user_id": f"{split}-{index}",
        "split": split,
        "position": 5,
        "messages": messages(prompt),
        "labels": [label],
        "label_items": [f"i{index}-{label - 1}"],
        "label_weights": [2.0],
        "answer_length": 3,
        "candidates": [f"i{index}-{n}" for n in range(6)],
        "scores": [-float(n) for n in range(6)],
        "titles": [f"T{n}" for n in range(6)],
        "history": [past.title for past in prompt.history],
        "tags": [[topic] for topic in topics],
        "novelty": [5.0] * 6,
        "seen": [False] * 6,
        "age_days": [1.5, None, 3.0, 40.0, 5.0, 6.0],
        "days_since_last": 1.0,
        "groups": [],
        "completion": completion(prompt, [label]) if split == "train" else None,
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 40 KiB; what a machine does not let us mount is skipped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


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
        recall_by_k=tuple(0.05 * k for k in range(1, 11)),
        ndcg_by_k=tuple(ndcg * k / 10 for k in range(1, 11)),
        answers=None if kind == "conventional" else answers,
    )


def difference(model: str, baseline: str, mean: float, low: float, high: float) -> Difference:
    return Difference(
        model=model, baseline=baseline, metric="ndcg@10", mean=mean, low=low, high=high, p_holm=0.5
    )


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
