"""Commands that show configurations."""

from typing import Annotated

import typer

app = typer.Typer(help="Show configurations, with help for every key.", no_args_is_help=True)


@app.command("list")
def list_profiles() -> None:
    """Print the names of the profiles that come with the project."""
    from pipelines.profile import names

    typer.echo("\n".join(names()))


@app.command()
def show(name: Annotated[str, typer.Argument(help="A profile's name or a YAML file.")] = "laptop") -> None:
    """Print every key with its value, default and help, as a profile to save and change."""
    from pipelines.profile import load, to_yaml

    typer.echo(to_yaml(load(name)), nl=False)
