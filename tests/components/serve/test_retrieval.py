"""What a request leaves out comes from the served folder, in the words of training."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.retrieve.served.folder import ITEMS
from components.serve.model import prompt_input
from components.serve.retrieval import Retrieval
from components.shared.prompting import render as prompt
from components.shared.prompting.request import read_request
from components.shared.prompting.settings import PromptSettings


def test_found_items_show_the_facts_that_sent_ones_show(served_folder: Path) -> None:
    seen = {"item_id": "i02", "actions": ["view"], "timestamp": "2026-01-01"}
    row = {"history": [seen], "now": "2026-01-02"}
    (request,), unknown = Retrieval(served_folder).completed([read_request(row, "row 0")])
    settings = PromptSettings(item_facts=("brand", "tags", "description"))
    text = prompt.messages(prompt_input(request, settings), settings)[-1]["content"]
    assert unknown == [0]
    assert "viewed 'Title 2 by Acme'" in text
    assert "- tea: Title 3 by Acme [1]; green; No. 3" in text


def test_what_the_catalogue_does_not_tell_is_left_out(served_folder: Path, tmp_path: Path) -> None:
    """Many logs have no brands, and some items no topic."""
    folder = shutil.copytree(served_folder, tmp_path / "served")
    items = pq.read_table(folder / ITEMS)
    nothing = pa.nulls(items.num_rows, pa.string())
    for name in ("brand", "topic"):
        items = items.set_column(items.column_names.index(name), name, nothing)
    pq.write_table(items, folder / ITEMS)
    history = [
        {"item_id": "i02", "actions": ["view"], "timestamp": "2026-01-01"},
        {"item_id": "gone", "title": "Own", "actions": ["view"], "timestamp": "2026-01-01"},
        {"item_id": "lost", "actions": ["view"], "timestamp": "2026-01-01"},
    ]
    (request,), unknown = Retrieval(folder).completed([read_request({"history": history}, "row 0")])
    assert [(seen.title, seen.topic, seen.brand) for seen in request.history] == [
        ("Title 2", None, None),
        ("Own", None, None),
    ]
    assert unknown == [2]
    assert {(found.topic, found.brand) for found in request.candidates} == {(None, None)}
    assert all(found.tags == ["tea", "green"] for found in request.candidates)
