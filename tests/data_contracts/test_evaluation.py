"""The evaluation report survives its JSON form and refuses every other one."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.evaluation import AnswerStatistics, Comparator, EvaluationReport, Interval, Sample
from data_contracts.metrics import METRICS

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
INTERVALS = st.builds(Interval, low=NUMBERS, high=NUMBERS)
COMPARATORS = st.builds(
    Comparator,
    metrics=st.fixed_dictionaries(dict.fromkeys(METRICS, NUMBERS)),
    ndcg_at_10_interval=INTERVALS,
    recall_by_k=st.lists(NUMBERS, max_size=3).map(tuple),
    ndcg_by_k=st.lists(NUMBERS, max_size=3).map(tuple),
    answers=st.none()
    | st.builds(
        AnswerStatistics,
        **{f.name: NUMBERS for f in dataclasses.fields(AnswerStatistics) if f.type is float},
        reasoning_ignored_share=st.none() | NUMBERS,
    ),
)
SAMPLES = st.builds(
    Sample, users=st.integers(), candidates=NUMBERS, recall_ceiling=NUMBERS, confidence=NUMBERS
)
REPORTS = st.builds(
    EvaluationReport,
    comparators=st.lists(COMPARATORS, max_size=3).map(tuple),
    differences=st.just(()),
    sample=SAMPLES,
    slices=st.just(()),
    alarms=st.just(()),
    lineage=st.dictionaries(st.text(), JSON, max_size=3),
    schema_version=st.just(4),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REPORTS)
def test_what_is_written_is_read_again(report: EvaluationReport) -> None:
    assert EvaluationReport.from_json(report.to_json(), "r.json") == report


def minimal() -> dict:
    sample = dict.fromkeys(("users", "users_available", "seed", "catalogue_items", "bootstrap_samples"), 1)
    sample |= dict.fromkeys(("candidates", "recall_ceiling", "confidence"), 0.5)
    return {
        "comparators": [],
        "differences": [
            {
                "model": "grpo",
                "baseline": "sft",
                "metric": "ndcg@10",
                "mean": 0,
                "low": -0.1,
                "high": 0.1,
                "p_holm": 1,
            }
        ],
        "sample": {"split": "test", **sample},
        "slices": [],
        "alarms": [],
        "examples": [],
        "lineage": {},
        "schema_version": 4,
    }


def test_a_whole_number_is_a_float_where_one_is_due() -> None:
    report = EvaluationReport.from_json(json.dumps(minimal()), "r.json")
    assert type(report.differences[0].mean) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"schema_version": 1}, "schema_version: 1 is not one of 4", id="another version"),
        pytest.param({"surprise": 1}, "r.json: unknown key 'surprise'", id="unknown key"),
        pytest.param({"slices": None}, r"r.json.slices: expected", id="null where a list is due"),
        pytest.param({"comparators": [{}]}, r"r.json.comparators\[0\]: missing key 'name'", id="empty entry"),
        pytest.param(
            {"sample": minimal()["sample"] | {"users": 1.5}}, "r.json.sample.users: expected int", id="type"
        ),
        pytest.param(
            {"sample": minimal()["sample"] | {"users": True}}, "r.json.sample.users: expected int", id="bool"
        ),
    ],
)
def test_anything_else_is_refused_by_its_key(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationReport.from_json(json.dumps(minimal() | change), "r.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "r.json: not valid JSON", id="cut off"),
        pytest.param("[]", "r.json: expected a mapping of keys, got list", id="a list"),
        pytest.param('{"schema_version": NaN}', "schema_version: nan is not a finite number", id="NaN"),
    ],
)
def test_what_is_no_report_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationReport.from_json(text, "r.json")


def test_a_comparator_has_exactly_the_named_metrics() -> None:
    with pytest.raises(ValueError, match="comparator 'x'"):
        Comparator(
            name="x",
            kind="llm",
            metrics={"ndcg@10": 0.1},
            ndcg_at_10_interval=Interval(low=0.0, high=0.2),
            recall_by_k=(),
            ndcg_by_k=(),
        )


def test_nan_is_never_written() -> None:
    report = EvaluationReport.from_json(json.dumps(minimal()), "r.json")
    with pytest.raises(ValueError, match=r"candidates\n.*finite number"):
        dataclasses.replace(report.sample, candidates=float("nan"))
    broken = dataclasses.replace(report, lineage={"gain": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.json: cannot be read"):
        EvaluationReport.read(tmp_path / "nowhere.json")
