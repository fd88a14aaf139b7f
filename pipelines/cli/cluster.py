"""Commands of pipelines, runs and schedules on Kubeflow."""

import gc
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import ClusterProfileOption, EndpointOption, NamespaceOption, ProfileOption

app = typer.Typer()


@app.command("compile")
def compile_(
    profile: ProfileOption = "kind",
    out: Annotated[Path, typer.Option(help="Where the pipeline's YAML goes.")] = Path("pipeline.yaml"),
    cache: Annotated[bool, typer.Option(help="Reuse outputs of unchanged steps.")] = True,
) -> None:
    """Compile the pipeline of a profile to YAML for Kubeflow."""
    gc.disable()  # collections find next to nothing in what is imported, and take a seventh of the time
    try:
        from components.shared.errors import ConfigError
        from pipelines.dag import compile_to
        from pipelines.profile import load

        loaded = load(profile)
        loaded.on_cluster(profile)
        if out.suffix not in (".yaml", ".yml"):
            raise ConfigError(f"--out {out}: name a file that ends in .yaml")
        try:
            compile_to(out, loaded, Path(profile).stem, cached=cache)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror})") from error
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
