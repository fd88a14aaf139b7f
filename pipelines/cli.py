"""The command line. Heavy imports stand inside the commands, so that `--help` answers at once."""

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from components.shared.errors import DataError, UserError

app = typer.Typer(
    help="RecLLM-R1 on Kubeflow: behaviour logs in, a better LLM recommender out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
importers = typer.Typer(help="Turn a public dataset into the three raw tables.", no_args_is_help=True)
app.add_typer(importers, name="import")
profiles_app = typer.Typer(help="Show configurations, with help for every key.", no_args_is_help=True)
app.add_typer(profiles_app, name="profile")


def _replaceable(out: str) -> str:
    """Return `out`. Raises DataError, before anything is read, if others wrote what is there."""
    from pipelines.datasets.own_folder import check_replaceable

    return check_replaceable(out)


ProfileOption = Annotated[str, typer.Option(help="A profile's name or a YAML file.")]
DataOption = Annotated[
    str | None,
    typer.Option(help="Folder or s3:// URI of users, items, events (and exposures); default: generate."),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show all output of the steps.")]
RunsOption = Annotated[Path, typer.Option(help="Folder of local runs, their cache and MLflow.")]
OutOption = Annotated[
    str,
    typer.Option(help="Folder or s3:// URI for the raw tables: new, or an import's.", callback=_replaceable),
]
ModelOption = Annotated[str, typer.Option(help="The registered model's name.")]
TrackingOption = Annotated[
    str, typer.Option(help="MLflow's address.", show_default="--runs, else $MLFLOW_TRACKING_URI, else runs")
]
RegistryRunsOption = Annotated[
    Path | None, typer.Option(help="Folder of local runs whose registry is meant.", show_default=False)
]
EndpointOption = Annotated[
    str,
    typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Kubeflow Pipelines' address; in a pod it is known."),
]
NamespaceOption = Annotated[
    str,
    typer.Option(help="Yours in a Kubeflow of many users; else where all pods are.", show_default="kubeflow"),
]
ClusterProfileOption = Annotated[str, typer.Option(help="A profile with `placement`, or a YAML file.")]


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


@profiles_app.command("list")
def list_profiles() -> None:
    """Print the names of the profiles that come with the project."""
    from pipelines.profile import names

    typer.echo("\n".join(names()))


@profiles_app.command()
def show(name: Annotated[str, typer.Argument(help="A profile's name or a YAML file.")] = "laptop") -> None:
    """Print every key with its value, default and help, as a profile to save and change."""
    from pipelines.profile import load, to_yaml

    typer.echo(to_yaml(load(name)), nl=False)


@app.command("compile")
def compile_(
    profile: ProfileOption = "kind",
    out: Annotated[Path, typer.Option(help="Where the pipeline's YAML goes.")] = Path("pipeline.yaml"),
    cache: Annotated[bool, typer.Option(help="Reuse outputs of unchanged steps.")] = True,
) -> None:
    """Compile the pipeline of a profile to YAML for Kubeflow."""
    gc.disable()  # collections find next to nothing in what is imported, and take a seventh of the time
    try:
        from pipelines.dag import compile_to
        from pipelines.profile import load

        loaded = load(profile)
        loaded.on_cluster(profile)
        compile_to(out, loaded, Path(profile).stem, cached=cache)
    finally:
        gc.enable()
    typer.echo(f"wrote {out}; upload it in the Kubeflow UI or with kfp.Client().upload_pipeline")


@app.command()
def submit(
    data: Annotated[str, typer.Option(help="s3:// URI of the raw tables, or a path on a volume.")],
    profile: ClusterProfileOption = "kind",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
    cache: Annotated[bool, typer.Option(help="Reuse outputs of unchanged steps.")] = True,
    as_of: Annotated[
        str, typer.Option(help="End of the data window (ISO 8601).", show_default="when submitted")
    ] = "",
    endpoint: EndpointOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Run the pipeline of this commit on Kubeflow."""
    from pipelines.cluster import client, progress, submit
    from pipelines.profile import load

    loaded = load(profile, {"sequences": {"as_of": as_of}} if as_of else None)
    connected = client.connect(endpoint, namespace)
    submit.check(loaded, Path(profile).stem, data)
    version = submit.upload(connected, loaded, Path(profile).stem, cached=cache)
    started = submit.start(connected, version, data)
    typer.echo(f"registry: {loaded.register.tracking_uri}")
    typer.echo(f"run {started} of {version.name}: {connected.link(f'runs/details/{started}')}")
    if wait:
        progress.follow(connected, started)


@app.command()
def runs(endpoint: EndpointOption = "", namespace: NamespaceOption = "") -> None:
    """List the newest runs on Kubeflow."""
    from pipelines.cluster import client, runs

    runs.show(client.connect(endpoint, namespace))


@app.command("logs")
def logs_(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    step: Annotated[str, typer.Argument(help="The step's name, such as sft.")],
    endpoint: EndpointOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Print what a step on Kubeflow printed, also after its pod is gone."""
    from pipelines.cluster import client, logs

    connected = client.connect(endpoint, namespace)
    typer.echo("\n".join(logs.read(connected, connected.get(f"runs/{run}"), step.replace("_", "-"))))


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help='Five fields in UTC, such as "0 3 * * *".')] = "",
    data: Annotated[str, typer.Option(help="s3:// URI of the raw tables, or a path on a volume.")] = "",
    profile: ClusterProfileOption = "kind",
    name: Annotated[str, typer.Option(help="The schedule's name.", show_default="the profile's")] = "",
    show: Annotated[bool, typer.Option("--list", help="List the schedules.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Start no more runs.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the next time.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; a running run goes on.")] = False,
    endpoint: EndpointOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Run the pipeline of this commit again and again; the same name replaces a schedule."""
    from components.shared.errors import ConfigError
    from pipelines.cluster import client, crons, schedule, submit
    from pipelines.profile import load

    if [bool(cron), show, pause, resume, delete].count(True) != 1 or bool(cron) != bool(data):
        raise ConfigError("give --cron with --data, or one of --list, --pause, --resume, --delete")
    name = name or Path(profile).stem
    if cron:
        crons.translate(cron)
        loaded = load(profile)
        connected = client.connect(endpoint, namespace)
        submit.check(loaded, Path(profile).stem, data)
        version = submit.upload(connected, loaded, Path(profile).stem)
        schedule.put(connected, name, cron, version, data)
        typer.echo(f"registry: {loaded.register.tracking_uri}")
        return
    connected = client.connect(endpoint, namespace)
    for is_wanted, action in ((pause, schedule.pause), (resume, schedule.resume), (delete, schedule.delete)):
        if is_wanted:
            action(connected, name)
    schedule.show(connected)


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
def doctor(
    profile: ProfileOption = "laptop", data: DataOption = None, runs: RunsOption = Path("runs")
) -> None:
    """Check everything that a run needs, and run nothing."""
    from pipelines import doctor as checks
    from pipelines.profile import load

    if not checks.run(load(profile), profile, data or "", runs):
        raise typer.Exit(1)


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


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version's number or an alias.")] = "challenger",
    model: ModelOption = "recllm-r1",
    tracking_uri: TrackingOption = "",
    runs: RegistryRunsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also a version that no gate has passed.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is forced; the history keeps it.")] = "",
) -> None:
    """Make a registered version the champion; the old champion becomes `previous`."""
    from components.register import promote
    from components.shared.errors import ConfigError

    if force != bool(reason.strip()):
        raise ConfigError("--force and --reason TEXT go together: the history keeps why it was forced")
    typer.echo(str(promote.promote(_registry(tracking_uri, runs), model, version, reason=reason.strip())))


@app.command()
def rollback(
    model: ModelOption = "recllm-r1", tracking_uri: TrackingOption = "", runs: RegistryRunsOption = None
) -> None:
    """Make `previous` the champion again."""
    from components.register import promote

    typer.echo(str(promote.rollback(_registry(tracking_uri, runs), model)))


@app.command()
def models(
    model: ModelOption = "recllm-r1", tracking_uri: TrackingOption = "", runs: RegistryRunsOption = None
) -> None:
    """List the registered versions with their aliases and headline figures, newest first."""
    from components.register.listing import list_versions
    from pipelines import summary

    found = list_versions(_registry(tracking_uri, runs), model)
    summary.show_rows(f"{model}: {len(found)} versions", found)


@app.command()
def history(
    model: ModelOption = "recllm-r1", tracking_uri: TrackingOption = "", runs: RegistryRunsOption = None
) -> None:
    """List every change of the champion, oldest first."""
    from components.register import listing
    from pipelines import summary

    found = listing.history(_registry(tracking_uri, runs), model)
    summary.show_rows(f"{model}: {len(found)} changes of the champion", found, without=("model", "changed"))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A version's number or an alias.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    model: ModelOption = "recllm-r1",
    tracking_uri: TrackingOption = "",
    runs: RegistryRunsOption = None,
) -> None:
    """Compare two registered versions user by user, by what their evaluations recorded."""
    from components.evaluate import versions
    from pipelines import summary

    rows, users = versions.compare(_registry(tracking_uri, runs), model, first, second)
    summary.show_rows(f"{model}: {second} minus {first}, {users:,} users that both were asked for", rows)


@app.command()
def recommend(
    data: Annotated[str, typer.Option(help="Folder or s3:// URI of users, items, events.")],
    out: Annotated[str, typer.Option(help="Folder or s3:// URI for the table: new, or its own.")],
    model: Annotated[str, typer.Option(help="A version by MLflow's URI.")] = "models:/recllm-r1@champion",
    users: Annotated[
        Path | None, typer.Option(help="File of user ids, one a line; default: everybody in the data.")
    ] = None,
    answer: Annotated[
        str, typer.Option(help='"reasoned" or "scored" (quicker, no rationale); default: as registered.')
    ] = "",
    profile: ProfileOption = "laptop",
    tracking_uri: TrackingOption = "",
    runs: RegistryRunsOption = None,
) -> None:
    """Rank items for users of raw tables by a registered model; a killed command resumes."""
    from components.shared.errors import ConfigError
    from pipelines import recommend
    from pipelines.profile import load

    if answer not in ("", "reasoned", "scored"):
        raise ConfigError(f"--answer {answer}: reasoned or scored")
    sequences, work = load(profile).sequences, (runs or Path("runs")) / "recommend"
    counts = recommend.run(model, _registry(tracking_uri, runs), sequences, data, users, out, work, answer)
    typer.echo(", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in vars(counts).items()))
    typer.echo(f"wrote {out}")


def _registry(tracking_uri: str, runs: Path | None) -> str:
    """Return the registry, after printing it; `given` wins over the environment."""
    from components.shared.errors import ConfigError
    from components.shared.tracking.failures import without_password
    from pipelines.local import local_registry

    if tracking_uri and runs:
        raise ConfigError("--tracking-uri and --runs name two registries; give one")
    if not tracking_uri and not runs:
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    found = tracking_uri or local_registry(runs or Path("runs"))
    typer.echo(f"registry: {without_password(found)}")
    return found


def main() -> None:
    """Run the command line; a user's mistake ends as one message and exit code 1."""
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
    try:
        app()
    except UserError as error:
        sys.exit(f"recllm: {error}")


if __name__ == "__main__":
    main()
