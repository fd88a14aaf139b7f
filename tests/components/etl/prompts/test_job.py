"""The whole prompts step: three files that datasets reads, samples, errors, equal bytes."""

import hashlib
import shutil
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.etl.prompts import job
from components.etl.prompts.tokens import token_counter
from components.shared.errors import ConfigError, ContractError, DataError, ModelError
from components.shared.prompting.render import VERBS
from data_contracts import tables

ROOM = {"max_prompt_tokens": 600, "shuffle_train_share": 0.0}


@pytest.fixture(scope="module")
def out(prepared, run_prompts_step, tiny_model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    report = run_prompts_step(prepared.folder, tiny_model_folder, folder, **ROOM)
    return folder, report


def rows(folder, split):
    return pq.read_table(folder / "prompts" / f"{split}.parquet").to_pylist()


def test_files_have_the_contracts_schema_and_order(out):
    folder, report = out
    for split in tables.SPLITS:
        assert pq.read_schema(folder / "prompts" / f"{split}.parquet") == tables.PROMPTS
        written = rows(folder, split)
        assert len(written) == getattr(report, split)
        assert [row["user_id"] for row in written] == sorted(row["user_id"] for row in written)
        assert {row["split"] for row in written} <= {split}


def test_counts_add_up(out, prepared):
    folder, report = out
    sequences = {row["user_id"]: row for row in prepared.table("sequences")}
    candidates = {(row["user_id"], row["split"]): row["item_ids"] for row in prepared.table("candidates")}
    missed = [
        u
        for u, row in sequences.items()
        if row["item_ids"][row["train_end"] - 1] not in candidates[u, "train"]
    ]
    assert (report.train_cases, report.train_unretrieved) == (len(sequences), len(missed))
    assert (report.train, report.valid, report.test) == (len(sequences) - len(missed), 10, len(sequences))
    hits = [row["labels"] != [] for row in rows(folder, "test")]
    assert report.test_recall == sum(hits) / len(hits)
    assert all(row["completion"] for row in rows(folder, "train"))


def test_every_prompt_fits_the_models_own_tokens(out, tiny_model_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    count = token_counter(str(tiny_model_folder))
    for row in rows(out[0], "test"):
        ids = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        assert len(ids) == count(row["messages"]) <= ROOM["max_prompt_tokens"]


def test_datasets_reads_the_folder(out):
    import datasets

    files = {split: str(out[0] / "prompts" / f"{split}.parquet") for split in tables.SPLITS}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(out[0] / "cache"))
    assert {split: len(loaded[split]) for split in loaded} == {s: getattr(out[1], s) for s in tables.SPLITS}
    assert loaded["train"][0]["messages"][1]["role"] == "user"


def test_bytes_depend_on_no_partition_count(
    out, prepared, run_prompts_step, tiny_model_folder, spark_config, tmp_path
):
    import dataclasses

    other = dataclasses.replace(spark_config, shuffle_partitions=5)
    run_prompts_step(prepared.folder, tiny_model_folder, tmp_path, spark=other, **ROOM)
    for split in tables.SPLITS:
        files = [folder / "prompts" / f"{split}.parquet" for folder in (out[0], tmp_path)]
        assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1, split


def test_a_split_is_written_row_group_by_row_group(prompts_folder, tmp_path, monkeypatch):
    """Wherever its part files were cut: the text of a whole split may not fit in one Arrow array."""
    monkeypatch.setattr(job, "ROW_GROUP", 6)
    train = pq.read_table(prompts_folder / "train.parquet")
    nothing = pa.Table.from_pylist([{}] * len(train), schema=pa.schema(list(job.RENDERED)[-3:]))
    for name, columns in zip(nothing.column_names, nothing.columns, strict=True):
        train = train.append_column(name, columns)
    written = {}
    for cuts in ((0, 16), (0, 1, 7, 8, 16)):
        staged, folder = (tmp_path / f"{kind} {len(cuts)}" for kind in ("staged", "out"))
        staged.mkdir(), folder.mkdir()
        for number, (start, end) in enumerate(pairwise(cuts)):
            part = train.slice(start, end - start).cast(job.RENDERED)
            pq.write_table(part, staged / f"part-{number:05d}.parquet")
        assert [job._write_split(staged, split, folder).num_rows for split in tables.SPLITS] == [16, 0, 0]
        written[cuts] = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    one, other = written.values()
    assert one == other
    groups = pq.ParquetFile(folder / "train.parquet").metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [6, 6, 4]
    assert pq.read_table(folder / "train.parquet") == pq.read_table(prompts_folder / "train.parquet")


def test_samples_are_seeded_and_kept_prompts_without_their_label_teach_nothing(
    prepared, run_prompts_step, tiny_model_folder, tmp_path
):
    small = {"train_prompts": 20, "valid_prompts": 3, "test_prompts": 4, "unretrieved": "keep", **ROOM}
    report = run_prompts_step(prepared.folder, tiny_model_folder, tmp_path, **small)
    assert (report.train, report.valid, report.test) == (20, 3, 4)
    for row in rows(tmp_path, "train"):
        assert (row["completion"] is None) == (row["labels"] == [])
    assert any(row["completion"] is None for row in rows(tmp_path, "train"))
    chosen = [row["user_id"] for row in rows(tmp_path, "test")]
    run_prompts_step(prepared.folder, tiny_model_folder, tmp_path / "seed", seed=1, **small)
    assert chosen != [row["user_id"] for row in rows(tmp_path / "seed", "test")]


def test_a_teacher_teaches_prompts_without_their_label(copied, run_prompts_step, tiny_model_folder):
    teaching = {"target": "teacher", "unretrieved": "keep", **ROOM}
    with pytest.raises(
        DataError, match=r"prompts cannot be made; .* set retrieve\.blend\.learner to teacher"
    ):
        run_prompts_step(copied, tiny_model_folder, copied / "out", **teaching)
    file = copied / "candidates/part-0.parquet"
    table = pq.read_table(file).to_pylist()
    for row in table:
        row["teacher"] = row["scores"][::-1] if row["split"] == "train" else None
    pq.write_table(pa.Table.from_pylist(table, schema=tables.CANDIDATES), file)
    report = run_prompts_step(copied, tiny_model_folder, copied / "out", **teaching)
    taught = rows(copied / "out", "train")
    assert len(taught) == report.train_cases and report.train_unretrieved
    assert all("<answer>10, 9, 8" in row["completion"] and len(row["teacher"]) == 10 for row in taught)


def test_every_position_of_a_users_train_part_may_have_a_prompt(copied, run_prompts_step, tiny_model_folder):
    """Add a prompt for the item before the last train item, which is in its list as the label before was."""
    file = copied / "candidates/part-0.parquet"
    table = pq.read_table(file)
    users = {row["user_id"]: row for row in pq.read_table(copied / "sequences").to_pylist()}
    earlier = []
    for row in table.to_pylist():
        position, items = row["position"] - 1, users[row["user_id"]]["item_ids"]
        if row["split"] == "train" and position > 0:
            others = [item for item in row["item_ids"] if item not in items]
            chosen = [*others[:2], items[position], *others[2:]]
            earlier.append(row | {"position": position, "item_ids": chosen, "scores": [0.0] * len(chosen)})
    assert earlier
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(earlier, schema=table.schema)]), file)
    run_prompts_step(copied, tiny_model_folder, copied / "out", **ROOM)
    found = {(row["user_id"], row["position"]): row for row in rows(copied / "out", "train")}
    for row in earlier:
        assert found[row["user_id"], row["position"]]["labels"] == [3]


@pytest.fixture
def copied(prepared, tmp_path):
    for name in ("sequences", "catalogue", "users", "candidates"):
        shutil.copytree(prepared.folder / name, tmp_path / name)
    return tmp_path


def test_a_budget_too_small_is_named(copied, run_prompts_step, tiny_model_folder):
    with pytest.raises(ConfigError, match=r"prompts cannot be made; the first: user .* max_prompt_tokens"):
        run_prompts_step(copied, tiny_model_folder, copied / "out", max_prompt_tokens=50)
    assert not (copied / "out/prompts").exists()


def test_missing_pieces_are_named(copied, run_prompts_step, tiny_model_folder):
    with pytest.raises(ModelError, match="tokenizer"):
        run_prompts_step(copied, copied / "no-model", copied / "out")
    shutil.rmtree(copied / "users")
    with pytest.raises(DataError, match="users: no such folder"):
        run_prompts_step(copied, tiny_model_folder, copied / "out")


def test_candidates_that_break_their_contract_stop_the_step(copied, run_prompts_step, tiny_model_folder):
    file = copied / "candidates/part-0.parquet"
    changed = pq.read_table(file).to_pylist()
    changed[3]["item_ids"][1] = changed[3]["item_ids"][0]
    pq.write_table(pa.Table.from_pylist(changed, schema=tables.CANDIDATES), file)
    with pytest.raises(ContractError, match=r"contract 'candidates' is broken: .*distinct.*1 of"):
        run_prompts_step(copied, tiny_model_folder, copied / "out")
    assert "broken" in (copied / "out/docs.html").read_text()


def test_an_unknown_candidate_is_named(copied, run_prompts_step, tiny_model_folder):
    file = copied / "candidates/part-0.parquet"
    changed = pq.read_table(file).to_pylist()
    changed[3]["item_ids"][1] = "ghost"
    pq.write_table(pa.Table.from_pylist(changed, schema=tables.CANDIDATES), file)
    with pytest.raises(DataError, match="item 'ghost' is not in the catalogue"):
        run_prompts_step(
            copied, tiny_model_folder, copied / "out", unretrieved="keep", valid_prompts=0, **ROOM
        )


@pytest.mark.slow
def test_a_user_of_100_000_events_passes_through(
    prepared, run_step, run_prompts_step, tiny_model_folder, tmp_path
):
    data = tmp_path / "data"
    shutil.copytree(prepared.data, data)
    events = pq.read_table(data / "events.parquet")
    items = pq.read_table(data / "items.parquet").column("item_id").to_pylist()
    count = 100_000
    start = events.column("timestamp")[0].value
    robot = pa.table(
        {
            "user_id": pa.repeat("robot", count),
            "item_id": [items[n % len(items)] for n in range(count)],
            "action": pa.repeat("click", count),
            "dwell_seconds": pa.nulls(count, pa.float64()),
            "timestamp": pa.array(range(start, start + 60_000_000 * count, 60_000_000)).cast(
                tables.TIMESTAMP
            ),
            "ordinal": pa.array(range(count)),
        },
        schema=tables.EVENTS,
    )
    pq.write_table(pa.concat_tables([events.cast(tables.EVENTS), robot]), data / "events.parquet")
    report = run_step(data, tmp_path / "tables", latest="2100-01-01")
    assert report.events_kept >= count
    (row,) = [
        row for row in pq.read_table(tmp_path / "tables/sequences").to_pylist() if row["user_id"] == "robot"
    ]
    assert row["item_ids"] == items and len(row["events"]) == count
    candidates = pq.read_table(prepared.folder / "candidates").to_pylist()
    places = {"train": row["train_end"] - 1, "valid": row["train_end"], "test": row["valid_end"]}
    some = {one["split"]: one for one in candidates if one["user_id"] == candidates[0]["user_id"]}
    candidates += [
        {**some[split], "user_id": "robot", "position": place, "item_ids": items[place - 9 : place + 1]}
        for split, place in places.items()
    ]
    (tmp_path / "tables/candidates").mkdir()
    pq.write_table(
        pa.Table.from_pylist(candidates, schema=tables.CANDIDATES),
        tmp_path / "tables/candidates/part-0.parquet",
    )
    run_prompts_step(tmp_path / "tables", tiny_model_folder, tmp_path, valid_prompts=0)
    for split in tables.SPLITS:
        assert "robot" in [row["user_id"] for row in rows(tmp_path, split)]


def test_statistics_are_those_of_the_days_before_counted_one_by_one(
    prepared, run_prompts_step, tiny_model_folder, tmp_path
):
    asked = ("description", "users", "actions", "last", "together")
    facts = {"item_facts": asked, "activity_days": (30,), "max_prompt_tokens": 5000}
    folder = shutil.copytree(prepared.folder, tmp_path / "tables")
    described = {}
    for part in (folder / "catalogue").glob("*.parquet"):
        items = pq.read_table(part)
        texts = [f"About {item}." if n % 2 else None for n, item in enumerate(items["item_id"].to_pylist())]
        described |= zip(items["item_id"].to_pylist(), texts, strict=True)
        place = items.column_names.index("description")
        pq.write_table(items.set_column(place, "description", pa.array(texts, pa.string())), part)
    run_prompts_step(folder, tiny_model_folder, tmp_path, shuffle_train_share=0.0, **facts)
    sequences = {row["user_id"]: row for row in prepared.table("sequences")}
    met = [
        (row["item_ids"][:end], [time.date() for time in row["timestamps"][:end]])
        for row in sequences.values()
        for end in [row["train_end"]]
    ]
    done = [
        (row["item_ids"][event["position"]], event["action"], event["timestamp"].date())
        for row in sequences.values()
        for event in row["events"]
        if event["position"] < row["train_end"]
    ]
    together = 0
    for row in rows(tmp_path, "test"):
        sequence, position = sequences[row["user_id"]], row["position"]
        today, latest = sequence["timestamps"][position].date(), sequence["item_ids"][position - 1]
        lines = row["messages"][1]["content"].partition("Candidates:\n")[2].splitlines()
        for item, line in zip(row["candidates"], lines, strict=False):
            days = [
                day
                for names, times in met
                for name, day in zip(names, times, strict=True)
                if name == item and day < today
            ]
            said = [described[item]] if described[item] else []
            said += [f"{sum((today - day).days <= 90 for day in days)} users in 90 days"]
            counts = Counter(
                action for name, action, day in done if name == item and 0 < (today - day).days <= 90
            )
            told = [f"{VERBS[action]} {counts[action]}" for action in VERBS if counts[action]]
            said += [f"{', '.join(told)} in 90 days"] if told else []
            said += [f"last met {(today - max(days)).days} days ago"] if days else []
            beside = sum(
                abs(names.index(item) - names.index(latest)) <= 3
                and times[max(names.index(item), names.index(latest))] < today
                for names, times in met
                if item in names and latest in names
            )
            said += [f"{beside} times with the latest item"] if beside else []
            assert line.split("; ")[1:] == said
            together += beside
    assert together, "no candidate ever stood beside a latest item: nothing was tried"
