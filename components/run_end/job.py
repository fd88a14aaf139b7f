"""Say how a run ended, on standard output and as Markdown for the Kubeflow UI."""

import json
from pathlib import Path

from components.shared.artifacts.outputs import write_text


def run(lineage: str, state: str, error: str, summary: Path) -> None:
    """Write the final state, the error if there is one, and what the run was made of."""
    print(f"run_end: the run ended as {state}", flush=True)
    rows = "".join(f"| {name} | {value} |\n" for name, value in sorted(json.loads(lineage).items()))
    cause = f"\n```\n{error}\n```\n" if error else ""
    write_text(summary, f"**{state}**\n{cause}\n| lineage | |\n|---|---|\n{rows}")
