"""Commands that make raw tables or check them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import OutOption, ProfileOption

app = typer.Typer()
importers = typer.Typer(help="Turn a public dataset into the three raw tables.", no_args_is_help=True)


@app.command()
def validate(
    data: Annotated[str, typer.Option(help="Folder or s3:// URI of users, items, events.")],
    profile: ProfileOption = "laptop",
    page: Annotated[Path, typer.Option(help="Where the page of findings goes.")] = Path("data_docs.html"),
) -> None:
    """Check raw tables against their contracts, and nothing else."""
    from components.etl.sources.raw import validate_raw
    from pipelines.profile import load

    quarantine = validate_raw(load(profile).sequences, data, page)
    refused = sum(sum(found.refused.values()) for found in quarantine.tallies.values())
    typer.echo(f"the contracts hold; {refused:,} rows would be quarantined; findings: {page}")


@app.command()
def sample(
    out: OutOption,
    users: Annotated[int | None, typer.Option(min=1, help="Default: the laptop profile's.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Default: the laptop profile's.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Same seed, same log.")] = 0,
    dirty_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of faulty events, to see the contracts at work.")
    ] = 0.0,
) -> None:
    """Generate a seeded log of a social platform."""
    from pipelines.datasets.synthetic.config import SampleConfig
    from pipelines.datasets.synthetic.log import generate

    default = SampleConfig()
    config = SampleConfig(
        users=users or default.users, items=items or default.items, seed=seed, dirty_share=dirty_share
    )
    generate(config, out)
    typer.echo(f"wrote {out}; next: recllm run --data {out}")


@importers.command()
def amazon(
    reviews: Annotated[Path, typer.Option(help="Reviews of one category: JSON lines, also .gz.")],
    meta: Annotated[Path, typer.Option(help="Metadata of the same category and year.")],
    out: OutOption,
) -> None:
    """Import Amazon product reviews of 2014, 2018 or 2023 with their metadata."""
    from pipelines.datasets.importers.amazon import import_amazon

    _imported(import_amazon(reviews, meta, out), out)


@importers.command()
def movielens(
    users: Annotated[Path, typer.Option(help="users.dat of MovieLens-1M.")],
    movies: Annotated[Path, typer.Option(help="movies.dat of MovieLens-1M.")],
    ratings: Annotated[Path, typer.Option(help="ratings.dat, or a Parquet table of the same columns.")],
    out: OutOption,
) -> None:
    """Import MovieLens-1M, which has user profiles."""
    from pipelines.datasets.importers.movielens import import_movielens

    _imported(import_movielens(users, movies, ratings, out), out)


def _imported(report: Any, out: str) -> None:
    typer.echo(f"wrote {out}: {report.users:,} users, {report.items:,} items, {report.events:,} events")
    if report.without_title:
        typer.echo(f"{report.without_title:,} items have no title; brand and category stand in")
    typer.echo(f"next: recllm run --data {out}")
