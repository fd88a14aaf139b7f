"""Commands of runs on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from components.shared.errors import DataError
from pipelines.cli.options import DataOption, ProfileOption, RunsOption, VerboseOption

app = typer.Typer()


@app.command()
def run(
    profile: ProfileOption = "laptop",
    data: DataOption = None,
    runs: RunsOption = Path("runs"),
    cache: Annotated[bool, typer.Option(help="Reuse outputs of unchanged steps.")] = True,
    verbose: VerboseOption = False,
) -> None:
    """Run the compiled pipeline on this machine, from logs to a registered model."""
    from pipelines import local, summary
    from pipelines.profile import load

    summary.show(local.run(load(profile), profile, data, runs, cache=cache, verbose=verbose))


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="sft-only, accuracy-reward, reasoning, … (`list` shows all).")],
    profile: ProfileOption = "laptop",
    data: DataOption = None,
    runs: RunsOption = Path("runs"),
    n: Annotated[int, typer.Option(min=2, help="Seeds of the experiments `seeds` and `control`.")] = 5,
    verbose: VerboseOption = False,
) -> None:
    """Answer one of the paper's questions: runs that differ in one thing, and a report. Registers nothing."""
    from pipelines import summary
    from pipelines.experiments import experiment as experiments

    if name == "list":
        for title, found in experiments.EXPERIMENTS.items():
            typer.echo(f"{title:<20} {found.question} ({', '.join(found.variants)})")
        return
    summary.show_experiment(experiments.run(name, profile, data, runs, verbose=verbose, seeds=n))


@app.command("open")
def open_(
    run: Annotated[str, typer.Argument(help="A run's name or folder; default: the newest.")] = "",
    runs: RunsOption = Path("runs"),
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open the main page of a run in the browser and print its path."""
    import webbrowser

    pages = [runs / run / "report.html", Path(run) / "report.html"] if run else runs.glob("*/report.html")
    written = [page.resolve() for page in pages if page.is_file()]
    if not written:
        raise DataError(f"{runs / run}: no report.html there; a run writes it at its end")
    newest = max(written, key=lambda page: page.stat().st_mtime)
    typer.echo(str(newest))
    if browser:
        webbrowser.open(newest.as_uri())


@app.command()
def doctor(
    profile: ProfileOption = "laptop", data: DataOption = None, runs: RunsOption = Path("runs")
) -> None:
    """Check everything that a run needs, and run nothing."""
    from pipelines import doctor as checks
    from pipelines.profile import load

    if not checks.run(load(profile), profile, data or "", runs):
        raise typer.Exit(1)
