"""Report how a run ended, in the log and as Markdown for the Kubeflow UI."""

import json
from pathlib import Path

from components.shared.artifacts.outputs import write_text
from components.shared.logs import logger

log = logger("run_end")


def run(lineage: str, state: str, error: str, summary: Path) -> None:
    """Write the final state, the error if there is one, and what the run was made from."""
    log.info("the run ended as %s", state)
    items = "".join(f"- {name}: {value}\n" for name, value in sorted(json.loads(lineage).items()))
    cause = f"\n```\n{error}\n```\n" if error else ""
    write_text(summary, f"**{state}**\n{cause}\nLineage:\n\n{items}")
