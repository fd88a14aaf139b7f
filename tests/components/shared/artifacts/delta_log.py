"""The log of a Delta table, rewritten as later writers leave it."""

import json
from pathlib import Path
from typing import Any

ERASED = [3, 4, 7, 11, 18, 29]
VECTOR = {
    "storageType": "i",
    "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
    "sizeInBytes": 44,
    "cardinality": len(ERASED),
}
"""The example of the protocol, which marks the rows ERASED."""


def add_to_files(table: Path, /, **add: Any) -> None:
    """Let every file in the log of the new `table` have `add`, and allow deletion vectors."""
    log = table / "_delta_log/00000000000000000000.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    features = ["deletionVectors"]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
        if "add" in action:
            action["add"] |= add
    log.write_text("\n".join(map(json.dumps, actions)))
