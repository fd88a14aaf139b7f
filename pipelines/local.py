"""Running the compiled pipeline on this machine under `kfp.local`: the DAG and code of a cluster."""

import contextlib
import os
import re
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from components.shared import environment
from components.shared.artifacts.fingerprint import of_folder, of_text
from components.shared.artifacts.storage import is_remote
from components.shared.config import to_json
from components.shared.errors import DataError, UserError
from components.shared.logs import EVENTS_VARIABLE
from components.shared.tracking import PIPELINE_RUN
from components.shared.tracking.failures import without_password
from data_contracts.evaluation import REPORT, EvaluationReport
from pipelines.console import Console
from pipelines.profile import Profile

if TYPE_CHECKING:
    from components.evaluate.gate import Decision

GENERATOR = Path(__file__).parent / "datasets" / "synthetic"


_ODD = frozenset("%?#*[]{}:\\")


class RunFailedError(UserError):
    """A step failed; the message holds the step's name and its cause."""


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A finished run: its folder, its registry, and what its evaluation and its gate say."""

    folder: Path
    evaluation: Path
    """The folder of the evaluation report, which for a cached step lies in another run."""
    tracking_uri: str
    model_name: str
    report: EvaluationReport
    decision: "Decision"

    @property
    def page(self) -> Path:
        """Return the path of the main page."""
        return self.folder / "report.html"


def run(
    profile: Profile,
    profile_name: str,
    data: str | None,
    runs: Path,
    *,
    cache: bool,
    verbose: bool,
    run_name: str = "",
) -> LocalRun:
    """Return the finished run of the whole DAG; unchanged steps come out of the cache.

    `run_name`, by default the profile's, begins the name of the run's folder. Raises RunFailedError if a
    step failed. The next run resumes from finished steps and checkpoints.
    """
    runs = plain_path(runs)
    profile = on_this_machine(profile, runs)
    if data and not is_remote(data) and not Path(data).is_dir():
        raise DataError(f"{data}: no such folder; it must hold the raw tables")
    stem = re.sub(r"[^A-Za-z0-9.-]+", "-", run_name or Path(profile_name).stem)[:60]
    folder = runs / f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        reason = f"cannot be written to ({error.strerror}); name another folder"
        raise UserError(f"--runs {runs}: {reason}") from error
    location = data if data and is_remote(data) else str(Path(data or _generate(profile, runs)).resolve())
    with Console(folder, verbose=verbose) as console, _stopping_children():
        console.say(f"run {folder.name}: everything it writes lies in {folder}")
        console.say(f"registry: {without_password(profile.register.tracking_uri)}")
        cache_root = runs / "cache" if cache else None
        return _execute(profile, Path(profile_name).stem, folder, cache_root, location, console)


def on_this_machine(profile: Profile, runs: Path) -> Profile:
    """Return `profile` without placement; the registry and checkpoints that it lacks are in `runs`."""
    tracking_uri = profile.register.tracking_uri or local_registry(runs)
    return replace(
        profile,
        register=replace(profile.register, tracking_uri=tracking_uri),
        checkpoints=profile.checkpoints or str(runs / "checkpoints"),
        placement=None,
    )


def local_registry(runs: Path) -> str:
    """Return the tracking URI of the registry that local runs in `runs` share."""
    return f"sqlite:///{plain_path(runs) / 'mlflow.db'}"


def plain_path(runs: Path) -> Path:
    """Return `runs` as an absolute path. Raises UserError: URIs or globs would read it otherwise."""
    path = runs.resolve()
    if odd := sorted({one for one in str(path) if one in _ODD or not one.isprintable()}):
        raise UserError(
            f"--runs {str(path)!r}: holds {' '.join(map(repr, odd))}, which SQLite's addresses or Spark's "
            "globs read as something else; name or rename a folder without"
        )
    return path


def _generate(profile: Profile, runs: Path) -> str:
    """Return the folder of the profile's generated log, which all runs share."""
    folder = runs / "data" / f"sample-{of_text(to_json(profile.sample), of_folder(GENERATOR, '*.*'))}"
    if not folder.is_dir():
        from pipelines.datasets.synthetic.log import generate

        typer.echo(f"generating a log of {profile.sample.users} users into {folder}")
        generate(profile.sample, folder)
    return str(folder)


def _execute(
    profile: Profile, name: str, folder: Path, cache: Path | None, data: str, console: Console
) -> LocalRun:
    from kfp import components as kfp_components
    from kfp import local

    from components.evaluate.gate import decide
    from pipelines import run_page
    from pipelines.dag import Outputs, compile_to

    variables = {
        # Threads that spin long while they wait slow training down several times on a busy machine; those
        # that sleep at once cost a tenth on an idle one.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000"),
        EVENTS_VARIABLE: str(console.events),
        "MLFLOW_TRACKING_URI": profile.register.tracking_uri,  # where steps log as they train
        "MLFLOW_EXPERIMENT_NAME": profile.register.experiment,
        PIPELINE_RUN: folder.name,
    }
    # The images are for clusters; here every step runs in this very environment.
    warnings.filterwarnings("ignore", message="You may be attemping to run a task", category=RuntimeWarning)

    compiled = folder / "pipeline.yaml"
    compile_to(compiled, profile, name, cached=cache is not None, scheduled="", run_id=folder.name)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder),
        enable_caching=cache is not None,
        cache_root=str(cache) if cache else None,
    )
    pipeline = kfp_components.load_component_from_file(str(compiled))
    try:
        with (
            environment.set_to(variables),
            console.log.open("a", buffering=1, encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
        ):
            artifacts = pipeline(data=data).outputs
    except RuntimeError as error:
        step, cause = console.failure(str(error))
        raise RunFailedError(f"step '{step}' failed: {cause}\nThe whole log: {console.log}") from error
    outputs = {name: Path(artifacts[name].path) for name in Outputs._fields}
    pages = {step: path for step, path in outputs.items() if step != "report"}
    cached = [step for step, path in pages.items() if folder not in path.parents]
    if cached:
        console.say(f"unchanged, so their outputs were used again: {', '.join(cached)}")
    taken = ", ".join(f"{step} {seconds:.0f}" for step, seconds in console.step_seconds().items())
    console.say(f"seconds per step: {taken}")
    report = EvaluationReport.read(outputs["report"] / REPORT)
    run = LocalRun(
        folder=folder,
        evaluation=outputs["report"],
        tracking_uri=profile.register.tracking_uri,
        model_name=profile.register.model_name,
        report=report,
        decision=decide(profile.gate, report),
    )
    run_page.write(folder, pages, report, run.decision)
    return run


@contextlib.contextmanager
def _stopping_children() -> Iterator[None]:
    """Make SIGINT and SIGTERM end the running step and this process."""

    def stop(signum: int, frame: Any) -> None:
        import psutil

        children = psutil.Process().children(recursive=True)
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(child)
            _, children = psutil.wait_procs(children, timeout=5)
        typer.echo("recllm: interrupted; the same command resumes after the last finished step", err=True)
        raise SystemExit(130)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
