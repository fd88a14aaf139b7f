"""Everything that a run needs, checked from here before there is a run."""

from pathlib import Path

from pipelines.profile import Profile


def run(profile: Profile, name: str, data: str, runs: Path) -> bool:
    """Print what every check of the profile called `name` finds; return whether none failed.

    `data` "" leaves the raw data out; `runs` is where a profile for this machine keeps its registry.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from components.window import preflight
    from pipelines.lineage import window_config
    from pipelines.local import on_this_machine

    if profile.placement is None:
        profile = on_this_machine(profile, runs)
    checks = preflight.run(window_config(profile, name), data)
    colours = {"ok": "green", "failed": "red", "not checked": "yellow"}
    table = Table(show_header=False, box=None, pad_edge=False)
    for check in checks:
        status = Text(check.status, style=colours[check.status])
        table.add_row(Text(check.title), status, Text(check.detail))
    Console(highlight=False).print(table)
    return all(check.status != "failed" for check in checks)
