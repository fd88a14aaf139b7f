"""The suites themselves: versioned, every expectation known to Great Expectations and with a severity."""

import json
from pathlib import Path

import pytest

import data_contracts
from data_contracts.tables import ACTIONS

SUITES = sorted((Path(data_contracts.__file__).parent / "expectations").glob("*.json"))


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_suite_is_complete(file):
    import great_expectations.expectations as gxe

    suite = json.loads(file.read_text())
    assert suite["name"] == file.stem and suite["meta"]["version"] and suite["meta"]["about"]
    assert suite["expectations"]
    for expectation in suite["expectations"]:
        assert expectation["severity"] in ("critical", "warning")
        name = "".join(part.capitalize() for part in expectation["type"].split("_"))
        assert hasattr(gxe, name), expectation["type"]


def test_every_table_that_crosses_a_boundary_has_a_suite():
    assert {file.stem for file in SUITES} >= {
        "raw_users",
        "raw_items",
        "raw_events",
        "sequences",
        "candidates",
        "prompts",
    }


def test_known_actions_are_the_same_in_suite_and_code():
    suite = json.loads(next(file for file in SUITES if file.stem == "raw_events").read_text())
    (known,) = [e["kwargs"]["value_set"] for e in suite["expectations"] if "value_set" in e["kwargs"]]
    assert known == list(ACTIONS)
