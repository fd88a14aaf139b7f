import dataclasses
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.retrieve.candidates.exposures import Exposures, load_exposures
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Histories, Queries
from components.retrieve.job import run
from components.retrieve.tables import load
from components.shared.errors import DataError

# Item number i of a sequence comes on day i: "a" has four items, so its test label is due on day 3.
SEQUENCES = {"a": ["p", "q", "r", "s"], "b": ["q", "p", "s", "r"], "c": ["s", "r", "q", "p"]}
CATALOGUE = ["p", "q", "r", "s", "t", "u"]


def answers(write_tables, shown, split="test"):
    inputs = write_tables(SEQUENCES, CATALOGUE, shown=shown)
    data = load(inputs["sequences"], inputs["catalogue"])
    queries = data.queries(split)
    ranked = load_exposures(inputs["exposures"], data).recommend(queries, 3)
    return {
        data.user_ids[user]: [data.item_ids[i] for i in row if i >= 0]
        for user, row in zip(queries.users, ranked.items, strict=True)
    }


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param([("a", 1, ["t"]), ("a", 2, ["u", "t"])], ["u", "t"], id="the latest"),
        pytest.param([("a", 2, ["t"]), ("a", 3, ["u"])], ["u"], id="at the label's very moment"),
        pytest.param([("a", 2, ["t"]), ("a", 3.1, ["s"])], ["t"], id="never one made after the label"),
        pytest.param([("a", 4, ["s"])], [], id="none by then"),
        pytest.param([("b", 1, ["t"])], [], id="none of another user"),
        pytest.param([("a", 2, ["q", "t", "p", "u"])], ["t", "u"], id="what the history holds is left out"),
        pytest.param([("a", 2, ["t", "u", "t"])], ["t", "u"], id="repeats count once"),
        pytest.param([("a", 2, ["gone", "t"])], ["t"], id="unknown items are left out"),
        pytest.param([("a", 2, ["u", "t", "s"])], ["u", "t", "s"], id="the label stays where it was shown"),
        pytest.param([("stranger", 2, ["t"]), ("a", 2, ["u"])], ["u"], id="unknown users"),
    ],
)
def test_the_latest_list_by_the_labels_time(write_tables, shown, expected) -> None:
    assert answers(write_tables, [*shown, ("c", 0, ["u"])])["a"] == expected


def test_each_split_asks_at_its_own_time(write_tables) -> None:
    shown = [("a", 0, ["u"]), ("a", 1, ["t"]), ("a", 2, ["s"]), ("a", 3, ["s", "t"])]
    for name, split, expected in (("t", "train", ["t"]), ("v", "valid", ["s"]), ("e", "test", ["s", "t"])):
        inputs = write_tables(SEQUENCES, CATALOGUE, shown=shown, name=name)
        data = load(inputs["sequences"], inputs["catalogue"])
        queries = data.train_queries(1) if split == "train" else data.queries(split)
        row = load_exposures(inputs["exposures"], data).recommend(queries, 5).items[0]
        assert [data.item_ids[i] for i in row if i >= 0] == expected


def test_of_two_lists_at_one_time_the_order_of_rows_does_not_decide(write_tables) -> None:
    shown = [("a", 2, ["t", "u"]), ("a", 2, ["u", "t"]), ("a", 2, ["t"]), ("a", 1, ["s"]), ("b", 2, ["t"])]
    inputs = write_tables(SEQUENCES, CATALOGUE, shown=shown)
    turned = write_tables(SEQUENCES, CATALOGUE, shown=shown[::-1], name="turned")
    data = load(inputs["sequences"], inputs["catalogue"])
    answered = [
        load_exposures(i["exposures"], data).recommend(data.queries("test"), 3) for i in (inputs, turned)
    ]
    assert answered[0].items.tolist() == answered[1].items.tolist()
    assert [data.item_ids[i] for i in answered[0].items[0] if i >= 0] == ["u", "t"]


def exposures_of(users, times):
    """Return Exposures of empty lists."""
    nothing = np.zeros(len(users), np.int64)
    return Exposures(None, users, times, Histories(nothing, nothing, nothing), 1.0)


def asked(users, times):
    """Return queries of users without a history."""
    nothing = np.zeros(len(users), np.int64)
    histories = Histories(nothing, nothing, nothing)
    return Queries(users, nothing, histories, histories, times, nothing)


def test_the_latest_of_many_lists_is_that_of_a_search_one_by_one() -> None:
    """Users without lists, several queries per user, equal times, queries in any order."""
    random = np.random.default_rng(0)
    for lists in (1, 7, 300):
        users, times = np.array(sorted(random.integers([1, -9], [20, 9], (lists, 2)).tolist())).T
        queries = asked(*random.integers([0, -12], [25, 12], (400, 2)).T)
        earlier = (users == queries.users[:, None]) & (times <= queries.times[:, None])
        expected = np.where(earlier, np.arange(lists), -1).max(1)
        assert exposures_of(users, times).latest(queries).tolist() == expected.tolist()
        assert (expected < 0).any() and (lists == 1 or (expected >= 0).any())


def test_a_query_makes_no_pass_over_all_lists() -> None:
    exposures = exposures_of(np.arange(1_000_000) // 10, np.arange(1_000_000))
    queries = asked(np.array([0, 99_999]), np.array([5, 999_995]))
    assert exposures.latest(queries).tolist() == [5, 999_995]  # sorts the lists
    tracemalloc.start()
    exposures.latest(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e3


def recast(folder, column, other) -> None:
    (file,) = folder.iterdir()
    table = pq.read_table(file)
    position = table.schema.get_field_index(column)
    pq.write_table(table.set_column(position, column, table.column(column).cast(other, safe=False)), file)


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_times_of_any_unit_tell_the_same(write_tables, unit) -> None:
    inputs = write_tables(SEQUENCES, CATALOGUE, shown=[("a", 2, ["t"]), ("a", 3.1, ["s"])], created={"p": 1})
    data = load(inputs["sequences"], inputs["catalogue"])
    expected = load_exposures(inputs["exposures"], data)
    recast(inputs["exposures"], "timestamp", pa.timestamp(unit, "UTC"))
    recast(inputs["sequences"], "timestamps", pa.list_(pa.timestamp(unit, "UTC")))
    recast(inputs["catalogue"], "created_at", pa.timestamp(unit, "UTC"))
    again = load(inputs["sequences"], inputs["catalogue"])
    assert np.array_equal(again.times, data.times)
    assert np.array_equal(again.created, data.created)
    assert np.array_equal(load_exposures(inputs["exposures"], again).times, expected.times)


def test_numbers_and_times_out_of_range_are_refused_as_times(write_tables) -> None:
    inputs = write_tables(SEQUENCES, CATALOGUE, shown=[("a", 2, ["t"])])
    data = load(inputs["sequences"], inputs["catalogue"])
    recast(inputs["exposures"], "timestamp", pa.int64())
    with pytest.raises(DataError, match="column 'timestamp' holds int64, not times"):
        load_exposures(inputs["exposures"], data)
    recast(inputs["exposures"], "timestamp", pa.timestamp("s"))  # microseconds taken for seconds
    with pytest.raises(DataError, match="column 'timestamp' holds a time out of range"):
        load_exposures(inputs["exposures"], data)


def test_lists_that_hold_nearly_every_label_are_flagged(write_tables, outputs) -> None:
    """A system that logs each click as a list of its own tells the labels."""
    shown = [(user, 3, [items[3]]) for user, items in SEQUENCES.items()]
    config = RetrieveConfig(models=("popularity",), candidates_from="online", num_candidates=2)
    catalogue = sorted({*CATALOGUE, *(f"x{n:03d}" for n in range(100))})
    flags = run(config, **write_tables(SEQUENCES, catalogue, shown=shown), **outputs).flags
    assert any("100% of their users' test labels" in flag for flag in flags)
    before = [(user, 0, ["x001", "x002"]) for user in SEQUENCES]
    flags = run(config, **write_tables(SEQUENCES, catalogue, shown=before, name="before"), **outputs).flags
    assert not any("labels" in flag for flag in flags)
    empty = write_tables(SEQUENCES, CATALOGUE, shown=[("a", 1, [])], name="empty")
    with pytest.raises(DataError, match="no item of any list is in the catalogue, they are empty"):
        run(config, **empty, **outputs)


def test_a_log_without_lists_has_none(write_tables) -> None:
    inputs = write_tables(SEQUENCES, CATALOGUE, shown=[("stranger", 1, ["p"])])
    assert load_exposures(inputs["exposures"], load(inputs["sequences"], inputs["catalogue"])) is None


def test_lists_from_outside_are_candidates_and_a_comparator(write_tables, outputs) -> None:
    """Users without a list: popularity makes their candidates, but nothing stands in for the comparator."""
    config = RetrieveConfig(models=("popularity", "online"), candidates_from="online", num_candidates=2)
    inputs = write_tables(SEQUENCES, CATALOGUE, shown=[("a", 0, ["u", "s", "t"])])
    report = run(config, **inputs, **outputs)
    candidates = {(r["user_id"], r["split"]): r for r in pq.read_table(outputs["candidates"]).to_pylist()}
    assert candidates["a", "test"]["item_ids"] == ["u", "s"]
    assert candidates["a", "test"]["scores"] == [1.0, 0.5]
    assert candidates["b", "test"]["item_ids"] == ["r", "t"]  # nobody met t: it fills by its index
    online = [r for r in pq.read_table(outputs["rankings"]).to_pylist() if r["model"] == "online"]
    assert {r["user_id"]: r["item_ids"] for r in online if r["split"] == "test"} == {
        "a": ["u", "s", "t"],
        "b": [],
        "c": [],
    }
    assert report.models["online"]["test"]["recall@5"] == pytest.approx(1 / 3)
    assert {s: f.unlisted for s, f in report.splits.items()} == {"train": 2, "valid": 2, "test": 2}
    assert report.splits["test"].filled == 4  # two each of b and c
    assert report.models["candidates"]["test"]["ndcg@5"] > report.models["online"]["test"]["ndcg@5"]


def test_a_blend_with_lists_from_outside(write_tables, outputs) -> None:
    config = RetrieveConfig(
        models=("popularity",), candidates_from="online+item_to_item", num_candidates=3, folds=2
    )
    run(config, **write_tables(SEQUENCES, CATALOGUE, shown=[("a", 0, ["u"])]), **outputs)
    first = {
        r["user_id"]: r["item_ids"][0]
        for r in pq.read_table(outputs["candidates"]).to_pylist()
        if r["split"] == "test"
    }
    assert first["a"] in ("u", "s")  # each leads one list
    assert first["b"] == "r"


def test_without_the_table_online_is_no_comparator_and_no_source(write_tables, outputs) -> None:
    config = RetrieveConfig(models=("popularity", "online"), candidates_from="popularity")
    inputs = write_tables(SEQUENCES, CATALOGUE)
    report = run(config, **inputs, **outputs)
    assert list(report.models) == ["popularity", "candidates"]
    assert "no exposures" in report.flags[-1]
    with pytest.raises(DataError, match="remove 'online' from"):
        run(dataclasses.replace(config, candidates_from="online+popularity"), **inputs, **outputs)


def test_lists_of_unknown_items_are_refused_and_half_known_ones_flagged(write_tables, outputs) -> None:
    config = RetrieveConfig(models=("popularity",), candidates_from="online", num_candidates=2)
    with pytest.raises(DataError, match=r"no item of any list is in the catalogue, such as \"\['p', 'q'\]\""):
        run(config, **write_tables(SEQUENCES, CATALOGUE, shown=[("a", 0, ["['p', 'q']"])]), **outputs)
    shown = [(user, 0, ["gone", "lost", "t"]) for user in "abc"]
    report = run(config, **write_tables(SEQUENCES, CATALOGUE, shown=shown, name="half"), **outputs)
    assert report.flags == ["Only 33% of the exposed items are in the catalogue."]
    late = write_tables(SEQUENCES, CATALOGUE, shown=[(user, 9, ["t"]) for user in "abc"], name="late")
    flags = run(config, **late, **outputs).flags
    assert sum("have no exposures" in flag for flag in flags) == 3


def test_one_long_list_is_no_burden_to_others(write_tables) -> None:
    """Padding 2,000 lists to the longest would take gigabytes."""
    users = {f"u{n:04d}": ["p", "q", "r", "s"] for n in range(2000)}
    long = ["t"] + [f"x{n}" for n in range(200_000)]
    shown = [(user, 0, ["t", "u"]) for user in users if user != "u0000"] + [("u0000", 0, long)]
    inputs = write_tables(users, CATALOGUE, shown=shown)
    data = load(inputs["sequences"], inputs["catalogue"])
    tracemalloc.start()
    ranked = load_exposures(inputs["exposures"], data).recommend(data.queries("test"), 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [data.item_ids[i] for i in ranked.items[0] if i >= 0] == ["t"]
    assert peak < 100e6
