"""The version behind `recllm serve`: histories in, rankings out, faults with their reason."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from components.register import packaging
from components.shared.prompting.settings import ServingConfig
from tests.benchmarks.serve import serving

SEEN = {"item_id": "i03", "actions": ["view"], "timestamp": "2026-01-01T09:00Z"}


@pytest.fixture(scope="module")
def server(tiny_model_folder, served_folder, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    parts = {"model": tiny_model_folder, "retriever": served_folder}
    built = packaging.build(parts, ServingConfig(dtype="float32", max_new_tokens=40), folder)
    with serving(str(built), cwd=folder) as address:
        yield address


def post(server: str, *rows: Any) -> requests.Response:
    return requests.post(f"{server}/invocations", json={"dataframe_records": list(rows)}, timeout=120)


@pytest.mark.slow
def test_a_new_users_history_is_answered(server: str) -> None:
    long = [SEEN | {"item_id": f"i{n % 11:02}" if n < 11 else f"gone{n}"} for n in range(10_000)]
    answered = post(server, {"history": [SEEN]}, {"history": []}, {"history": long})
    assert answered.status_code == 200, answered.text
    known, cold, busy = answered.json()["predictions"]
    assert {"i02", "i04"} < set(known["item_ids"]) and known["unknown_items"] == 0
    assert len(cold["item_ids"]) == 4
    assert known["valid"] and cold["valid"]  # of a model that has learnt nothing: decoding is constrained
    assert busy["item_ids"] == ["i11"] and busy["unknown_items"] == 10_000 - 11
    assert all({"rationale", "valid", "scores"} < set(row) for row in (known, cold, busy))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"history": "i03"}, "history", id="text for a list"),
        pytest.param({"history": [{**SEEN, "actions": "view"}]}, "actions", id="text for actions"),
        pytest.param({"history": [{**SEEN, "item_id": 3}]}, "item_id", id="number for an id"),
        pytest.param({"history": [{**SEEN, "timestamp": "soon"}]}, "history[0].timestamp", id="no time"),
        pytest.param({"history": [{**SEEN, "actions": []}]}, "history[0].actions", id="no action"),
        pytest.param({"now": "2026-01-01"}, "history", id="no history"),
        pytest.param({"history": [SEEN | {"item_id": "\t"}]}, "history[0].item_id", id="blank id"),
        pytest.param({"history": [SEEN | {"title": "t" * 10**6}]}, "history[0].title", id="endless title"),
        pytest.param(
            {"history": [SEEN | {"actions": ["hover"]}]}, "history[0].actions[0]", id="unknown action"
        ),
        pytest.param(
            {"history": [SEEN], "interests": [{"topic": "tea", "count": -2}]},
            "interests[0].count",
            id="negative count",
        ),
        pytest.param(
            {"history": [SEEN], "candidates": [{"item_id": "c", "title": "  "}]},
            "candidates[0].title",
            id="candidate without a title",
        ),
        pytest.param({"history": [SEEN | {"timestamp": "2999-01-01"}]}, "after now", id="a later history"),
        pytest.param({"history": json.loads("[" * 700 + "]" * 700)}, "row 0", id="lists in lists"),
        pytest.param({"history": [3] * 10_000}, "row 0: and 9,980 more", id="every entry"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(server: str, row: dict, reason: str) -> None:
    answered = post(server, row)
    assert 400 <= answered.status_code < 500, answered.text
    assert reason in answered.text
