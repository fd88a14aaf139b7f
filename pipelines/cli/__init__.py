"""The command line. Heavy imports stand inside the commands, so that `--help` answers at once."""

import logging
import sys

import typer

from components.shared.errors import UserError
from pipelines.cli import cluster, data, local, profiles, registry

app = typer.Typer(
    help="RecLLM-R1 on Kubeflow: behaviour logs in, a better LLM recommender out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for part in (local, cluster, data, registry):
    app.add_typer(part.app)
app.add_typer(data.importers, name="import")
app.add_typer(profiles.app, name="profile")


def main() -> None:
    """Run the command line; a user's mistake ends as one message and exit code 1."""
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
    try:
        app()
    except UserError as error:
        sys.exit(f"recllm: {error}")
