"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer


def _replaceable(out: str) -> str:
    """Return `out`. Raises DataError, before anything is read, if others wrote what is there."""
    from pipelines.datasets.own_folder import check_replaceable

    return check_replaceable(out)


def _named(data: str | None) -> str | None:
    """Return `data`. Raises DataError if it is "": a script's variable is unset."""
    from components.shared.errors import DataError

    if data == "":
        raise DataError('--data "": names no folder; leave the option out for a generated log')
    return data


ProfileOption = Annotated[str, typer.Option(help="A profile's name or a YAML file.")]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="Folder or s3:// URI of users, items, events (and exposures); default: generate.",
        callback=_named,
    ),
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
