"""The generated log: repeatable, of the asked size, with the structure it promises."""

import hashlib
from collections import Counter

import pyarrow.parquet as pq
import pytest

from data_contracts import tables
from pipelines.datasets.synthetic.config import SampleConfig
from pipelines.datasets.synthetic.items import FORMS, STYLES
from pipelines.datasets.synthetic.log import FUNNEL, generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "log"
    generate(SampleConfig(), folder)
    return folder


def rows(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_tables_have_the_contracts_types_and_sizes(folder):
    for name, schema in tables.RAW.items():
        if name == "exposures":  # the generated online system logs no propensities
            schema = schema.remove(schema.get_field_index("propensities"))
        assert pq.read_schema(folder / f"{name}.parquet") == schema
    assert (len(rows(folder, "users")), len(rows(folder, "items"))) == (1200, 4000)
    items = Counter(user for user, _ in {(e["user_id"], e["item_id"]) for e in rows(folder, "events")})
    assert 9 < sum(items.values()) / 1200 < 16
    assert 0.02 < sum(count < 5 for count in items.values()) / 1200 < 0.2  # the cleaning has something to do


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    def digest(path):
        return [hashlib.sha256((path / f"{name}.parquet").read_bytes()).hexdigest() for name in tables.RAW]

    generate(SampleConfig(), tmp_path / "again")
    generate(SampleConfig(seed=1), tmp_path / "other")
    assert digest(tmp_path / "again") == digest(folder)
    assert not set(digest(tmp_path / "other")) & set(digest(folder))


def test_the_next_item_follows_topic_and_style(folder):
    items = {row["item_id"]: row for row in rows(folder, "items")}
    styles = {word: number for number, words in enumerate(STYLES) for word in words}
    assert len({row["title"] for row in items.values()}) > 0.9 * len(items)
    last, same_topic, same_style, steps = {}, 0, 0, 0
    for event in rows(folder, "events"):
        item = items[event["item_id"]]
        now = (item["item_id"], item["tags"][0], styles[item["title"].split()[0]])
        before = last.get(event["user_id"])
        if before and before[0] != now[0]:
            steps += 1
            same_topic += before[1] == now[1]
            same_style += before[2] == now[2]
        last[event["user_id"]] = now
    assert same_topic / steps > 0.45  # by chance 1/24
    assert same_style / steps > 1.4 / len(STYLES)


def test_a_users_items_share_forms_until_the_last(folder):
    titles = {row["item_id"]: row["title"] for row in rows(folder, "items")}
    items = {}
    for event in rows(folder, "events"):
        items.setdefault(event["user_id"], {})[event["item_id"]] = None
    shares = []
    for met in map(list, items.values()):
        forms = [next(form for form in FORMS if titles[item].endswith(form)) for item in met]
        if len(forms) > 4:
            shares.append(forms[:-1].count(forms[-1]) / (len(forms) - 1))
    assert sum(shares) / len(shares) > 1.5 / len(FORMS)


def test_a_style_is_said_in_several_words_and_launched_items_are_met_late(folder):
    items = {row["item_id"]: row for row in rows(folder, "items")}
    assert {row["title"].split()[0] for row in items.values()} == {word for words in STYLES for word in words}
    events = rows(folder, "events")
    launched = [item for item, row in items.items() if row["created_at"].year == 2025]
    assert 0.36 < len(launched) / len(items) < 0.44
    early = [e for e in events if e["timestamp"] < items[e["item_id"]]["created_at"]]
    assert len(early) < 0.02 * len(events)
    counts = Counter(event["item_id"] for event in events)
    assert sum(counts[item] for item in launched) / len(launched) < 0.7 * len(events) / len(items)


def test_shuffled_titles_change_nothing_but_the_titles(folder, tmp_path):
    generate(SampleConfig(shuffle_titles=True), tmp_path / "log")
    for name in ("users", "events", "exposures"):
        assert (tmp_path / f"log/{name}.parquet").read_bytes() == (folder / f"{name}.parquet").read_bytes()
    before, after = rows(folder, "items"), rows(tmp_path / "log", "items")
    assert sorted(row["title"] for row in before) == sorted(row["title"] for row in after)
    assert sum(old["title"] == new["title"] for old, new in zip(before, after, strict=True)) < 30
    assert [row | {"title": ""} for row in before] == [row | {"title": ""} for row in after]


def test_the_online_system_shows_ten_items_that_exist(folder):
    created = {item["item_id"]: item["created_at"] for item in rows(folder, "items")}
    lists = rows(folder, "exposures")
    assert all(len(set(shown["item_ids"])) == 10 for shown in lists)
    early = [created[item] > shown["timestamp"] for shown in lists for item in shown["item_ids"]]
    assert sum(early) < len(early) / 1000


def test_the_funnel_narrows_and_only_looking_has_dwell(folder):
    events = rows(folder, "events")
    counts = Counter(event["action"] for event in events)
    assert [counts[action] for action in FUNNEL] == sorted(counts.values(), reverse=True)
    assert all((e["dwell_seconds"] is not None) == (e["action"] in ("view", "click")) for e in events)


def test_times_lie_in_the_window_and_rise_within_a_user(folder):
    last = {}
    for event in rows(folder, "events"):
        assert "2025-01-01" <= event["timestamp"].isoformat() < "2025-03-04"
        assert last.get(event["user_id"], event["timestamp"]) <= event["timestamp"]
        last[event["user_id"]] = event["timestamp"]


def test_popularity_is_skewed(folder):
    counts = sorted(Counter(e["item_id"] for e in rows(folder, "events") if e["action"] == "view").values())
    assert sum(counts[-len(counts) // 10 :]) > 0.2 * sum(counts)


def test_chunks_join_without_a_seam(tmp_path):
    generate(SampleConfig(users=50, chunk_users=20, items=60), tmp_path / "log")
    assert [row["user_id"] for row in rows(tmp_path / "log", "users")] == [f"u{n:02d}" for n in range(50)]
    ordinals = [row["ordinal"] for row in rows(tmp_path / "log", "events")]
    assert ordinals == list(range(len(ordinals)))


def test_the_dirty_share_is_of_all_events(tmp_path):
    generate(SampleConfig(users=100, dirty_share=0.2, exposures=False), tmp_path / "log")
    events = rows(tmp_path / "log", "events")
    broken = sum(
        e["user_id"] is None
        or e["item_id"] in (None, "no-such-item")
        or e["action"] == "teleport"
        or (e["dwell_seconds"] or 0) < 0
        or not 2024 < e["timestamp"].year < 2026
        for e in events
    )
    assert broken / len(events) == pytest.approx(0.2 * 7 / 8, abs=0.03)  # one kind in eight repeats a row
    assert not (tmp_path / "log/exposures.parquet").exists()


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.datasets.synthetic.log._chunk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(SampleConfig(users=10), tmp_path / "log")
    assert not list(tmp_path.iterdir())
