"""Each leak planted, each seen: in one prompt, and in whole tables."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.etl.config import PromptsConfig
from components.etl.prompts import statistics
from components.etl.prompts.leakage import position_leak, row_leak
from components.etl.prompts.rows import CatalogueStatistics, render
from components.shared.errors import LeakageError
from components.shared.prompting import render as rendering
from components.shared.prompting.settings import PromptSettings
from data_contracts import tables

START = datetime(2025, 1, 1, tzinfo=UTC)


def case_of(**changes):
    names = ["apple", "birch", "cedar", "daisy", "elder"]
    times = [START + timedelta(days=n) for n in range(5)]
    case = {
        "user_id": "u7",
        "split": "train",
        "position": 2,
        "label_positions": [2],
        "item_ids": names,
        "timestamps": times,
        "train_end": 3,
        "valid_end": 4,
        "events": [{"position": n, "action": "view", "timestamp": times[n]} for n in range(5)],
        "candidates": ["elder", "cedar", "fern9"],
        "scores": [3.0, 2.0, 1.0],
        "items": {
            name: {"item_id": name, "title": f"The {name} tree", "topic": "plants", "tags": ["plants"]}
            for name in [*names, "fern9"]
        },
    }
    return {**case, **changes}


SETTINGS = PromptSettings(title_chars=24)


def row_of(
    before="Recent: 'The apple tree', 'The birch tree'", labels=("cedar",), candidates=None, until=START
):
    after = "1. The elder tree\n2. The cedar tree\n3. The fern9 tree"
    return {
        "messages": [
            {"role": "system", "content": "You recommend."},
            {"role": "user", "content": f"{before}\nCandidates:\n{after}"},
        ],
        "label_items": list(labels),
        "candidates": candidates or ["elder", "cedar", "fern9"],
        "shown_until": until,
    }


def test_an_honest_prompt_passes():
    assert row_leak(case_of(), row_of(), [0, 1], SETTINGS) is None


@pytest.mark.parametrize(
    ("case", "row", "positions", "found"),
    [
        pytest.param(
            {}, {"before": "Hint: The cedar tree"}, [0, 1], "title 'The cedar tree'", id="title in history"
        ),
        pytest.param({}, {"before": "User profile: likes cedar."}, [0, 1], "id 'cedar'", id="id in profile"),
        pytest.param({}, {}, [0, 2], "its history shows 'cedar'", id="label in history"),
        pytest.param({}, {}, [0, 3], "its history shows 'daisy'", id="later item in history"),
        pytest.param(
            {}, {"labels": ["elder"]}, [0, 1], "test label of the same user", id="test label trains"
        ),
        pytest.param(
            {"candidates": ["elder", "fern9"]}, {}, [0, 1], "was the label added", id="label injected"
        ),
        pytest.param(
            {"position": 3, "label_positions": [3]},
            {"labels": ["daisy"]},
            [0, 1],
            "outside the train",
            id="wrong window",
        ),
        pytest.param({"split": "valid"}, {}, [0, 1], "outside the valid", id="valid label trains"),
        pytest.param(
            {},
            {"until": START + timedelta(days=2, hours=1)},
            [0, 1],
            "tells of 2025-01-03 01:00",
            id="future",
        ),
    ],
)
def test_planted_leaks_are_seen(case, row, positions, found):
    message = row_leak(case_of(**case), row_of(**row), positions, SETTINGS)
    assert message is not None and found in message and "user 'u7'" in message


def test_history_later_than_the_label_is_seen():
    case = case_of()
    case["timestamps"] = [case["timestamps"][4], *case["timestamps"][1:]]
    assert "met after the label" in row_leak(case, row_of(), [0, 1], SETTINGS)


@pytest.mark.parametrize("column", ["days", "done"])
@pytest.mark.parametrize(("planted", "message"), [(1, None), (2, "tells of 2025-01-04"), (3, "2025-01-05")])
def test_a_statistic_that_counts_the_labels_day_or_a_later_one_is_seen(column, planted, message, monkeypatch):
    """The label is met on day 2 of the log; a fault in the counting lets the whole log in."""
    case = case_of(engagement=[1.0] * 5, profile={})
    day = (START - statistics.EPOCH).days
    for item in case["items"].values():
        item |= {"train_count": 1, "created_at": None}
        item |= {column: [{"day": day + planted, "action": "save", "count": 7}]}
    config = PromptsConfig(item_facts=("users", "actions", "last", "together"))
    said = "7 users" if column == "days" else "saved 7 in 90 days"
    known = CatalogueStatistics(interactions=9, items=6)
    honest = render(case, config, known, lambda messages: 1)
    assert row_leak(case, honest, [0, 1], config) is None
    assert (said in honest["messages"][1]["content"]) == (message is None)
    monkeypatch.setattr(statistics, "before", lambda days, today: days)
    faulty = render(case, config, known, lambda messages: 1)
    found = row_leak(case, faulty, [0, 1], config)
    assert found is None if message is None else message in found


def test_another_item_with_the_labels_title_is_no_leak():
    case = case_of()
    case["items"]["apple"]["title"] = "The cedar tree"
    assert (
        row_leak(case, row_of(before="Recent: 'The cedar tree', 'The birch tree'"), [0, 1], SETTINGS) is None
    )


def test_a_shortened_history_title_that_begins_like_the_label_is_no_leak():
    case = case_of()
    case["items"]["apple"]["title"] = "The cedar tree, Big Stuff and more"
    row = row_of(before="Recent: 'The cedar tree, Big…', 'The birch tree'")
    assert row_leak(case, row, [0, 1], SETTINGS) is None


def test_a_shortened_label_title_is_seen():
    case = case_of()
    case["items"]["cedar"]["title"] = "The cedar tree of the northern hills"
    row = row_of(before="Recent: 'The apple tree', 'The cedar tree of the…'")
    assert "title 'The cedar tree of the…'" in row_leak(case, row, [0, 1], SETTINGS)


def test_a_title_that_is_a_topic_tells_nothing():
    case = case_of()
    for item in case["items"].values():
        item.update(title="Tree Care Guide", topic="Tree Care Guide", tags=["Tree Care Guide"])
    assert row_leak(case, row_of(before="User profile: interests Tree Care Guide."), [0, 1], SETTINGS) is None


@pytest.mark.parametrize("heading", ["Candidates:", "Choose from these:"])
def test_another_wording_of_the_prompt_raises_no_false_alarm_and_hides_no_leak(
    heading, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rendering, "CANDIDATES_HEADING", heading)
    case = case_of(
        engagement=[1.0] * 5,
        profile={},
        items={
            name: {**item, "train_count": 1, "created_at": None} for name, item in case_of()["items"].items()
        },
    )
    row = render(case, PromptsConfig(), CatalogueStatistics(interactions=9, items=6), lambda messages: 1)
    assert f"\n{heading}\n" in row["messages"][1]["content"]
    assert "The cedar tree" in row["messages"][1]["content"].partition(heading)[2]
    assert row_leak(case, row, row["history_positions"], PromptsConfig()) is None
    row["messages"][1]["content"] = f"Hint: The cedar tree\n{row['messages'][1]['content']}"
    assert "title 'The cedar tree'" in row_leak(case, row, row["history_positions"], PromptsConfig())


@pytest.mark.parametrize(
    ("numbers", "candidates", "leaks"),
    [
        pytest.param([1] * 40, 10, True, id="always first"),
        pytest.param([10] * 39 + [1], 10, True, id="39 of 40 last"),
        pytest.param([1] * 37 + [2, 3, 4], 10, False, id="37 of 40 are under 95 %"),
        pytest.param([1] * 29, 10, False, id="too few to tell"),
        pytest.param([1] * 40, 1, False, id="there is only one place"),
    ],
)
def test_the_place_of_the_label_may_not_give_it_away(numbers, candidates, leaks):
    assert (position_leak(numbers, candidates) is not None) == leaks


def _change(folder, name, edit):
    (file,) = sorted((folder / name).glob("*.parquet"))[:1]
    rows = pq.read_table(file).to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=getattr(tables, name.upper())), file)


def _reorder(rows):
    """Move the first event on each user's test item to the front of their log, as a faulty sort would."""
    for row in rows:
        label = next(e for e in row["events"] if e["position"] == row["valid_end"])
        row["events"].insert(0, label)


def _trained_on_label(rows):
    for row in rows:
        row["fold"] = -1


def _count_tests(rows):
    rows[0]["train_count"] += 1


def _always_last(rows):
    for row in rows:
        if row["split"] == "train":
            sequence = SEQUENCES[row["user_id"]]
            others = [i for i in row["item_ids"] if i != sequence[row["position"]]][:9]
            row["item_ids"] = [*others, sequence[row["position"]]]
            row["scores"] = [0.0] * len(row["item_ids"])


SEQUENCES: dict[str, list[str]] = {}


@pytest.mark.parametrize(
    ("table", "edit", "message"),
    [
        pytest.param(
            "candidates",
            _trained_on_label,
            r"user 'u\d+': .* trained on its label \(fold -1\)",
            id="retriever",
        ),
        pytest.param("catalogue", _count_tests, r"item 'i\d+': train_count \d+ exceeds its", id="statistics"),
        pytest.param(
            "sequences", _reorder, r"user 'u\d+', \w+ prompt at position \d+: its history shows", id="history"
        ),
        pytest.param("candidates", _always_last, "the label is candidate number 10", id="place"),
    ],
)
def test_planted_leaks_stop_the_step(
    prepared, run_prompts_step, tiny_model_folder, tmp_path, table, edit, message
):
    import shutil

    for name in ("sequences", "catalogue", "users", "candidates"):
        shutil.copytree(prepared.folder / name, tmp_path / name)
    SEQUENCES.update({row["user_id"]: row["item_ids"] for row in prepared.table("sequences")})
    _change(tmp_path, table, edit)
    with pytest.raises(LeakageError, match=message):
        run_prompts_step(tmp_path, tiny_model_folder, tmp_path / "out", max_prompt_tokens=1000)
    assert not (tmp_path / "out/prompts").exists()
