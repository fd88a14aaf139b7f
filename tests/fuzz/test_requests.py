"""Valid requests, mutated: each becomes a prompt and a ranking of its candidates, or is refused by place."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.register.packaging import EXAMPLE
from components.serve.model import prompt_input, ranking
from components.shared.errors import DataError
from components.shared.prompting import render
from components.shared.prompting.request import read_request
from components.shared.prompting.settings import PromptSettings
from tests.fuzz.seeded import SEEDED, mutated_value

REQUEST = EXAMPLE.to_dict(orient="records")[0] | {"interests": [{"topic": "tea", "count": 3}]}
ODD = (
    *(None, float("nan"), float("inf"), pd.NA, pd.NaT, pd.Timestamp("2026-01-01"), np.nan, np.int64(3)),
    *("", "x", "\x00", "\ud800", "😀" * 400, "i1", "view", b"\xff", 0, -1, 3.0, 1.5, True, 10**30),
    *([], {}, [None], ["a"], [[]], [{}], {"a": 1}, {1: "a"}, {"item_id": "i1"}, (), {"a"}, object()),
    *(np.array([]), np.array([1, 2]), np.array([{"item_id": "i9", "title": "T"}], dtype=object)),
    *("2026-13-01", "2026-01-01T25:00Z", "2026-W01-7", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"),
)
PLACE = re.compile(r"row 3(\.\w+(\[\d+\])?)*(\.[^:]*)?: .", re.DOTALL)


@pytest.mark.parametrize(
    "settings_",
    [PromptSettings(history_days=9), PromptSettings(natural_language=False)],
    ids=["titles", "ids"],
)
@settings(SEEDED, max_examples=200)
@given(st.integers(0, 2**32))
def test_mutated_requests(settings_, seed):
    row = mutated_value(REQUEST, seed, ODD)
    try:
        request = read_request(row, "row 3")
    except DataError as error:
        assert all(PLACE.match(line) for line in str(error).splitlines()), str(error)
        return
    if not request.candidates:
        return  # the version retrieves them
    ids = [candidate.item_id for candidate in request.candidates]
    assert ids == list(dict.fromkeys(candidate["item_id"] for candidate in row["candidates"]))
    whole = prompt_input(request, settings_)
    fitted, _ = render.fit(whole, lambda messages: 1, settings_)
    text = render.messages(fitted, settings_)[-1]["content"]
    assert text.count("\n- ") >= len(ids) and text.encode()
    ranked = ranking(request, "<think>x</think><answer>2, 1</answer>", settings_.answer_length)
    assert sorted(ranked["item_ids"]) == sorted(ids)
