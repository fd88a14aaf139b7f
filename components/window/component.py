"""KFP wrapper of the first task, which is never cached."""

from typing import NamedTuple

from kfp.dsl import HTML, Output

from components.step import step


@step()
def window(config: dict, data: str, scheduled: str, run_id: str, page: Output[HTML]) -> NamedTuple(  # type: ignore[valid-type]
    "Window",
    [
        ("as_of", str),
        ("data_fingerprint", str),
        ("base_model_fingerprint", str),
        ("encoder_fingerprint", str),
        ("champion_version", str),
        ("champion_fingerprint", str),
        ("lineage", dict),
    ],
):
    """Check what the run needs; return its window, names of its inputs, its lineage."""
    from pathlib import Path

    from components.shared.config import parse
    from components.window.config import WindowConfig
    from components.window.job import run

    return run(parse(WindowConfig, config, "window"), data, scheduled, run_id, Path(page.path))
