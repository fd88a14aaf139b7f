"""What a request leaves out comes from the served folder, in the words of training."""

from pathlib import Path

from components.serve.model import prompt_input
from components.serve.retrieval import Retrieval
from components.shared.prompting import render as prompt
from components.shared.prompting.request import read_request
from components.shared.prompting.settings import PromptSettings


def test_found_items_show_the_facts_that_sent_ones_show(served_folder: Path) -> None:
    seen = {"item_id": "i02", "actions": ["view"], "timestamp": "2026-01-01"}
    row = {"history": [seen], "now": "2026-01-02"}
    (request,), unknown = Retrieval(served_folder).completed([read_request(row, "row 0")])
    settings = PromptSettings(item_facts=("brand", "tags"))
    text = prompt.messages(prompt_input(request, settings), settings)[-1]["content"]
    assert unknown == [0]
    assert "viewed 'Title 2 by Acme'" in text
    assert "- tea: Title 3 by Acme [1]; green" in text
