"""Where each step runs on a cluster: image, resources, GPUs, volumes and secrets by reference."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from components.shared.artifacts.storage import is_remote
from components.shared.config import strict
from components.shared.errors import ConfigError
from components.window.config import GPU, PRODUCT

if TYPE_CHECKING:  # a profile is also read in the trainer's image, which holds no client of Kubeflow
    from kfp import dsl

COMMIT = "{commit}"
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|:([\w.]+-)?(?=\d*[a-f])[0-9a-f]{7,40}$|:([\w.]+-)?\{commit\}$")


def _check_references(references: dict[str, str]) -> dict[str, str]:
    for name, reference in references.items():
        if not re.fullmatch(r"[a-z0-9.-]+/[\w.-]+", reference):
            # Without the text: somebody may have written the secret itself.
            raise ValueError(f"{name}: write NAME/KEY of a secret or config map")
    return references


References = Annotated[dict[str, str], AfterValidator(_check_references)]
"""NAME/KEY of secrets or config maps by environment variables."""


def _quantity(pattern: str, examples: str) -> AfterValidator:
    def check(quantity: str) -> str:
        if quantity and not re.fullmatch(pattern, quantity):
            raise ValueError(f"{quantity!r} is no quantity that Kubeflow takes here; write {examples}")
        return quantity

    return AfterValidator(check)


Cpu = Annotated[str, _quantity(r"\d+(m|\.\d+)?", "500m, 4 or 1.5")]
Memory = Annotated[str, _quantity(r"\d+(Ki|[MGTP]i?)?", "512Mi, 16Gi or 16G")]

# Neither TOKENIZERS_PARALLELISM, MAX_TOKENS nor the path of a token's file is a secret.
_SECRET_NAME = re.compile(
    "(?!.*_(PATH|FILE|DIR)$).*(SECRET|TOKEN(?!S|IZER)|PASSWORD|ACCESS_KEY)", re.IGNORECASE
)


def _check_env(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if _SECRET_NAME.match(name):
            raise ValueError(f"{name}: looks like a secret, which anybody could read here; use `secrets`")
    return env


Env = Annotated[dict[str, str], AfterValidator(_check_env)]


def _check_volumes(volumes: dict[str, str]) -> dict[str, str]:
    for path, claim in volumes.items():
        if path in ("/tmp", "/dev/shm") or claim in ("tmp", "shm"):
            raise ValueError("/tmp and /dev/shm, and claims called tmp or shm, are taken")
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no absolute path")
        # Kubeflow calls a pod's volume by the name of its claim.
        if not re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", claim):
            raise ValueError(f"claim {claim!r}: only lower-case letters, digits and - name a volume")
    if len(set(volumes.values())) < len(volumes):
        raise ValueError("a claim is mounted at one path of a step; name the folders below it")
    return volumes


Volumes = Annotated[dict[str, str], AfterValidator(_check_volumes)]
"""Claims by the paths where they are mounted."""


@strict
class Images:
    """The image of each dependency world, pinned by a commit or a digest."""

    spark: str = f"recllm-r1/spark:{COMMIT}"
    """Image of the data steps; {commit} is replaced by the commit of the code that compiles."""
    trainer: str = f"recllm-r1/trainer:{COMMIT}"
    """Image of retrieval, training and evaluation."""
    ops: str = f"recllm-r1/ops:{COMMIT}"
    """Image of the window, the gate and the registry."""


@strict
class Toleration:
    """A taint that a step's pod tolerates."""

    key: Annotated[str, Field(min_length=1)]
    """Key of the taint."""
    value: str = ""
    """Its value; empty = any."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Its effect; empty = any."""


@strict
class StepPlacement:
    """Where one step runs."""

    image: str = ""
    """Another image than that of `images`."""
    cpu: Cpu = ""
    """CPU request and limit, such as 4 or 500m; empty = the namespace's default."""
    memory: Memory = ""
    """Memory request and limit, such as 16Gi; `shm` counts against it."""
    gpus: NonNegativeInt = 0
    """GPUs of the pod."""
    gpu_products: tuple[str, ...] = ()
    """Values of the node label nvidia.com/gpu.product, one of which the node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the pod tolerates."""
    shm: Memory = ""
    """Size of /dev/shm in memory, such as 64Gi; empty = the runtime's 64 MiB."""
    volumes: Volumes = field(default_factory=dict)
    """Persistent volume claims by mount paths."""
    env: Env = field(default_factory=dict)
    """Environment variables."""
    secrets: References = field(default_factory=dict)
    """Environment variables from secrets: NAME/KEY by variable."""
    config_maps: References = field(default_factory=dict)
    """Environment variables from config maps: NAME/KEY by variable."""
    queue: str = ""
    """Kueue's local queue."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels of the pod."""
    timeout: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seconds after which the pod is ended; 0 = none."""
    retries: NonNegativeInt = 0
    """Further attempts after a failure; a training resumes from its checkpoints."""

    def __post_init__(self) -> None:
        if bool(self.gpus) != bool(self.gpu_products):
            raise ValueError("gpus and gpu_products: give both or none; a GPU step names its products")

    def mounts(self, path: str) -> bool:
        """Return whether `path` is on a volume of the step."""
        return any(Path(path).is_relative_to(mounted) for mounted in self.volumes)


@strict
class Placement:
    """Where the steps run on a cluster: a section per step, and what all share."""

    images: Images = field(default_factory=Images)
    root: str = ""
    """Pipeline root (s3:// or minio://); empty = the backend's."""
    service_account: str = ""
    """Service account of submitted and scheduled runs; empty = the backend's."""
    run_as_user: PositiveInt = 1000
    """User id of every pod; its group is 0, which may read the images."""
    env: Env = field(default_factory=dict)
    """Environment variables of every step, such as AWS_ENDPOINT_URL."""
    secrets: References = field(default_factory=dict)
    """As in a step, for every step: {AWS_ACCESS_KEY_ID: storage/access-key}."""
    config_maps: References = field(default_factory=dict)
    """As in a step, for every step."""
    image_pull_secret: str = ""
    """Secret of a private registry."""
    notify: str = ""
    """NAME/KEY of the secret with a webhook's URL that learns how each run ended; empty = none."""
    window: StepPlacement = field(default_factory=StepPlacement)
    sequences: StepPlacement = field(default_factory=StepPlacement)
    retrieve: StepPlacement = field(default_factory=StepPlacement)
    base_model: StepPlacement = field(default_factory=StepPlacement)
    prompts: StepPlacement = field(default_factory=StepPlacement)
    sft: StepPlacement = field(default_factory=StepPlacement)
    grpo: StepPlacement = field(default_factory=StepPlacement)
    champion: StepPlacement = field(default_factory=StepPlacement)
    evaluate: StepPlacement = field(default_factory=StepPlacement)
    gate: StepPlacement = field(default_factory=StepPlacement)
    register: StepPlacement = field(default_factory=StepPlacement)

    def __post_init__(self) -> None:
        for key, image in self._images().items():
            if not _PINNED.search(image):
                raise ValueError(f"{key}: {image!r} can change; pin a digest or a commit, or write {COMMIT}")
        if self.notify:
            _check_references({"notify": self.notify})
        if self.root and not is_remote(self.root):
            raise ValueError(f"root: {self.root!r} is neither s3://… nor minio://…")

    def _images(self) -> dict[str, str]:
        own = {f"{name}.image": step.image for name, step in self.steps().items() if step.image}
        return {f"images.{world}": image for world, image in vars(self.images).items()} | own

    def steps(self) -> dict[str, StepPlacement]:
        """Return the sections by step."""
        return {step: getattr(self, step) for step in WORLD}

    def images_of(self, commit: str) -> list[str]:
        """Return the images of the code of `commit`, whatever the step."""
        return [image.replace(COMMIT, commit) for image in self._images().values()]

    @property
    def gpu_products(self) -> list[str]:
        """Return every GPU product that a step asks for."""
        return sorted({product for step in self.steps().values() for product in step.gpu_products})

    def apply(self, step: str, task: "dsl.PipelineTask", commit: str) -> None:
        """Give `task` of `step` its image, resources, node, environment and user.

        Raises: ConfigError if an image's {commit} is unknown.
        """
        own = self.steps()[step]
        task.set_container_image(_pinned(own.image or getattr(self.images, WORLD[step]), commit))
        _set_resources(task, own)
        # `window` checks that every step will find its secrets.
        sources = self.steps().values() if step == "window" else [own]
        _set_environment(task, {**self.env, **own.env}, [self, *sources])
        _set_node(task, own, self.gpu_products)
        _set_pod(task, own, self)

    def apply_notify(self, task: "dsl.PipelineTask", commit: str) -> None:
        """Give the exit handler's `task` its image, its user and the webhook's secret."""
        task.set_container_image(_pinned(self.images.ops, commit))
        webhook = StepPlacement(secrets={"RECLLM_NOTIFY_URL": self.notify}, timeout=600)
        _set_environment(task, self.env, [webhook])
        _set_node(task, webhook, self.gpu_products)
        _set_pod(task, webhook, self)


WORLD = {
    **dict.fromkeys(("sequences", "prompts"), "spark"),
    **dict.fromkeys(("retrieve", "base_model", "sft", "grpo", "evaluate"), "trainer"),
    **dict.fromkeys(("window", "champion", "gate", "register"), "ops"),
}
"""The image of each step."""


def _pinned(image: str, commit: str) -> str:
    if COMMIT not in image:
        return image
    if not commit or commit.endswith("-dirty"):
        found = "this code has uncommitted changes" if commit else "this code is of no known commit"
        raise ConfigError(f"placement.images: {image!r}: {found}; commit, or pin images that exist")
    return image.replace(COMMIT, commit)


def _set_resources(task: "dsl.PipelineTask", own: StepPlacement) -> None:
    if own.cpu:
        task.set_cpu_request(own.cpu).set_cpu_limit(own.cpu)
    if own.memory:
        task.set_memory_request(own.memory).set_memory_limit(own.memory)
    if own.gpus:
        task.set_accelerator_type(GPU).set_accelerator_limit(own.gpus)
    if own.retries:
        task.set_retry(own.retries, backoff_duration="30s", backoff_factor=2)


def _set_environment(task: "dsl.PipelineTask", env: Mapping[str, str], sources: Iterable[Any]) -> None:
    from kfp import kubernetes

    for name, value in env.items():
        task.set_env_variable(name, value)
    for source in sources:
        for name, reference in source.secrets.items():
            secret, key = reference.split("/")
            # Optional: a pod that lacks a secret would hang; `window` says which is missing.
            kubernetes.use_secret_as_env(task, secret, {key: name}, optional=True)
        for name, reference in source.config_maps.items():
            config_map, key = reference.split("/")
            kubernetes.use_config_map_as_env(task, config_map, {key: name}, optional=True)


def _set_node(task: "dsl.PipelineTask", own: StepPlacement, all_products: list[str]) -> None:
    """Require the step's GPU products, or refuse all that other steps ask for."""
    from kfp import kubernetes

    for taint in own.tolerations:
        kubernetes.add_toleration(
            task,
            key=taint.key,
            operator="Equal" if taint.value else "Exists",
            value=taint.value or None,
            effect=taint.effect or None,
        )
    operator, products = ("In", list(own.gpu_products)) if own.gpus else ("NotIn", all_products)
    if products:
        expression = {"key": PRODUCT, "operator": operator, "values": products}
        kubernetes.add_node_affinity(task, match_expressions=[expression])


def _set_pod(task: "dsl.PipelineTask", own: StepPlacement, shared: Placement) -> None:
    from kfp import kubernetes

    kubernetes.set_security_context(
        task, run_as_user=shared.run_as_user, run_as_group=0, run_as_non_root=True
    )
    kubernetes.empty_dir_mount(task, "tmp", "/tmp")  # an admin may make root file systems read-only
    if shared.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [shared.image_pull_secret])
    if own.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=own.shm)
    for path, claim in own.volumes.items():
        kubernetes.mount_pvc(task, claim, path)
    queue = {"kueue.x-k8s.io/queue-name": own.queue} if own.queue else {}
    for name, value in (own.labels | queue).items():
        kubernetes.add_pod_label(task, name, value)
    if own.timeout:
        kubernetes.set_timeout(task, own.timeout)
