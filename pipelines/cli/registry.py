"""Commands of registered models."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import ModelOption, ProfileOption, RegistryRunsOption, TrackingOption

app = typer.Typer()

CHAMPION = "models:/recllm-r1@champion"
VersionOption = Annotated[str, typer.Option(help="A version by MLflow's URI.")]
AnswerOption = Annotated[
    str, typer.Option(help='"reasoned" or "scored" (quicker, no rationale); default: as registered.')
]


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
    typer.echo(str(promote.promote(registry_uri(tracking_uri, runs), model, version, reason=reason.strip())))


@app.command()
def rollback(
    model: ModelOption = "recllm-r1", tracking_uri: TrackingOption = "", runs: RegistryRunsOption = None
) -> None:
    """Make `previous` the champion again."""
    from components.register import promote

    typer.echo(str(promote.rollback(registry_uri(tracking_uri, runs), model)))


@app.command()
def models(
    model: ModelOption = "recllm-r1", tracking_uri: TrackingOption = "", runs: RegistryRunsOption = None
) -> None:
    """List the registered versions with their aliases and headline figures, newest first."""
    from components.register.listing import list_versions
    from pipelines import summary

    found = list_versions(registry_uri(tracking_uri, runs), model)
    summary.show_rows(f"Versions of {model}", found)


@app.command()
def history(
    model: ModelOption = "recllm-r1", tracking_uri: TrackingOption = "", runs: RegistryRunsOption = None
) -> None:
    """List every change of the champion, oldest first."""
    from components.register import listing
    from pipelines import summary

    found = listing.history(registry_uri(tracking_uri, runs), model)
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

    rows, users = versions.compare(registry_uri(tracking_uri, runs), model, first, second)
    summary.show_rows(f"{model}: {second} minus {first}, {users:,} users that both were asked for", rows)


@app.command()
def recommend(
    data: Annotated[str, typer.Option(help="Folder or s3:// URI of users, items, events.")],
    out: Annotated[str, typer.Option(help="Folder or s3:// URI for the table: new, or its own.")],
    model: VersionOption = CHAMPION,
    users: Annotated[
        Path | None, typer.Option(help="File of user ids, one a line; default: everybody in the data.")
    ] = None,
    answer: AnswerOption = "",
    engine: Annotated[
        str, typer.Option(help='"transformers" or "vllm", for reasoned answers; default: as registered.')
    ] = "",
    profile: ProfileOption = "laptop",
    tracking_uri: TrackingOption = "",
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder where parts wait; its registry, if no other is named.", show_default=False),
    ] = None,
) -> None:
    """Rank items for users of raw tables by a registered model; a killed command resumes."""
    from components.shared.errors import ConfigError
    from pipelines import recommend
    from pipelines.profile import load

    _check_answer(answer)
    if engine not in ("", "transformers", "vllm"):
        raise ConfigError(f"--engine {engine}: transformers or vllm")
    sequences, work = load(profile).sequences, (runs or Path("runs")) / "recommend"
    uri = registry_uri(tracking_uri, None if tracking_uri else runs)
    counts = recommend.run(model, uri, sequences, data, users, out, work, answer, engine)
    typer.echo(", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in vars(counts).items()))
    typer.echo(f"wrote {out}")


@app.command()
def serve(
    model: VersionOption = CHAMPION,
    answer: AnswerOption = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    tracking_uri: TrackingOption = "",
    runs: RegistryRunsOption = None,
) -> None:
    """Answer requests over HTTP by a registered model."""
    import json
    import sys

    from mlflow.pyfunc.scoring_server import SERVING_MODEL_CONFIG

    from pipelines.recommend import pinned

    _check_answer(answer)
    _check_address(host, port)
    uri = registry_uri(tracking_uri, runs)
    if not Path(model).is_dir():  # a version's folder is served as it is
        model = pinned(model, uri)
    environment = {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "600", **os.environ}  # MLflow's is a minute
    environment["MLFLOW_TRACKING_URI"] = uri
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"  # of uvicorn
    if answer:
        environment[SERVING_MODEL_CONFIG] = json.dumps({"answer": answer})
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    sys.stdout.flush()
    os.execve(sys.executable, [*command, "--host", host, "--port", str(port)], environment)


def _check_address(host: str, port: int) -> None:
    """Raise ConfigError if nothing can listen there, which the server says in a traceback."""
    import socket

    from components.shared.errors import ConfigError

    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: cannot be listened on ({error})") from error


def _check_answer(answer: str) -> None:
    from components.shared.errors import ConfigError

    if answer not in ("", "reasoned", "scored"):
        raise ConfigError(f"--answer {answer}: reasoned or scored")


def registry_uri(tracking_uri: str, runs: Path | None) -> str:
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
