"""Worker processes of one training: one per GPU of this machine, or several on its CPU.

The step's own process starts the workers, passes on what rank 0 logs and tracks, and ends them all when one
fails. No port is used: the workers find one another by a file, and talk over the loopback interface.
"""

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from components.shared import environment
from components.shared.errors import ConfigError, TrainingError, UserError
from components.shared.processes import die_with_parent
from components.shared.tracking.tracker import NO_TRACKING, Tracker

T = TypeVar("T")

_LONGEST_SAVE = timedelta(hours=2)
"""How long the others wait while rank 0 writes a checkpoint to a slow volume."""

_SECONDS_TO_DIE = 2.0
_SECONDS_TO_END = 30.0


def rank() -> int:
    """Return this process's number among the workers; 0 without workers."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of workers; 1 without."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor's sum over the workers."""
    if size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def sum_gradients(model: torch.nn.Module) -> None:
    """Replace the gradients by their sums over the workers."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    pending = [dist.all_reduce(gradient, async_op=True) for gradient in gradients]
    for work in pending:
        work.wait()


def resolve(processes: int) -> int:
    """Return the number of processes; 0 means one per visible GPU.

    Raises: ConfigError if there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise ConfigError(f"sft.processes is {processes}, but {gpus} GPUs are visible; set 0 to use them all")
    return processes or max(1, gpus)


def run(function: Callable[[Tracker], T], processes: int, tracker: Tracker) -> T:
    """Return what `function` returns in rank 0 of the workers.

    A lone worker on at most one GPU is this process. `function` must be picklable.
    Raises: the UserError of a worker; TrainingError if one was killed; RuntimeError with the traceback.
    """
    if processes == 1 and torch.cuda.device_count() <= 1:
        return function(tracker)
    with (
        tempfile.TemporaryDirectory(prefix="recllm-workers-") as folder,
        _started(function, processes, Path(folder) / "store") as (workers, connections),
    ):
        return _result(workers, connections, tracker)


@dataclass(frozen=True)
class _Figures:
    step: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class _Result:
    value: Any


@contextlib.contextmanager
def _started(
    function: Callable[[Tracker], Any], processes: int, store: Path
) -> Iterator[tuple[list[SpawnProcess], list[Connection]]]:
    """Yield workers and connections to them; the end of the block kills them."""
    context = multiprocessing.get_context("spawn")
    workers, connections = [], []
    try:
        for number in range(processes):
            connection, theirs = context.Pipe()
            arguments = (function, number, processes, store, theirs)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            with _only_gpu(number):
                worker.start()
            theirs.close()  # so that the worker's end is its death
            workers.append(worker)
            connections.append(connection)
        yield workers, connections
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


def _only_gpu(number: int) -> contextlib.AbstractContextManager[None]:
    """Let processes started in the block see one GPU: transformers uses all it sees."""
    if not torch.cuda.device_count():
        return contextlib.nullcontext()
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return environment.set_to({"CUDA_VISIBLE_DEVICES": seen.split(",")[number] if seen else str(number)})


def _result(workers: Sequence[SpawnProcess], connections: Sequence[Connection], tracker: Tracker) -> Any:
    results: dict[Connection, Any] = {}
    while len(results) < len(connections):
        for ready in wait([connection for connection in connections if connection not in results]):
            assert isinstance(ready, Connection)
            try:
                message = ready.recv()
            except (EOFError, OSError) as error:
                raise _death(workers) or TrainingError("sft: a worker process ended") from error
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, _Figures):
                tracker.log(message.step, message.figures)
            elif isinstance(message, _Result):
                results[ready] = message.value
            elif isinstance(message, UserError):
                raise message
            else:  # a killed worker breaks the connections of the others: their errors are not the cause
                raise _death(workers) or message
    for worker in workers:
        worker.join(_SECONDS_TO_END)
    return results[connections[0]]


def _death(workers: Sequence[SpawnProcess]) -> TrainingError | None:
    """Return an error naming the worker that was killed, or None if none was."""
    ending = wait([worker.sentinel for worker in workers], _SECONDS_TO_DIE)
    for number, worker in enumerate(workers):
        if worker.sentinel in ending:
            worker.join(_SECONDS_TO_END)
        if worker.exitcode:
            how = f"was killed by {signal.Signals(-worker.exitcode).name}"
            if worker.exitcode > 0:
                how = f"ended with exit code {worker.exitcode}"
            return TrainingError(
                f"sft: the worker of rank {number} of {len(workers)} {how}; where memory ran out, give the "
                "step more of it, or lower sft.micro_batch_size or sft.max_length"
            )
    return None


def _work(
    function: Callable[[Tracker], Any], number: int, processes: int, store: Path, parent: Connection
) -> None:
    """Run `function` as one of the workers and send what it returns or raises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent()
    if not (starter := multiprocessing.parent_process()) or not starter.is_alive():
        return  # it died before it could take this process with it
    _log_to(parent if number == 0 else None)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    try:
        dist.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=dist.FileStore(str(store), processes),
            rank=number,
            world_size=processes,
            timeout=_LONGEST_SAVE,
        )
        result = function(_SentFigures(parent) if number == 0 else NO_TRACKING)
        dist.destroy_process_group()
        parent.send(_Result(result))
    except Exception as error:
        text = f"sft: the worker of rank {number} of {processes} failed:\n{traceback.format_exc()}"
        parent.send(error if isinstance(error, UserError) else RuntimeError(text))
        parent.poll(None)  # its end would be an error to the others: the parent kills all


class _SentFigures(Tracker):
    def __init__(self, parent: Connection) -> None:
        super().__init__()
        self._parent = parent

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._parent.send(_Figures(step, figures))


class _SentRecords(logging.handlers.QueueHandler):
    queue: Any  # a connection: only `enqueue` uses it

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(record)


def _log_to(parent: Connection | None) -> None:
    """Send what is logged to `parent`, or nowhere: every rank says the same."""
    # It takes the group for its own kind of data parallelism, and warns that it has not started it.
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)
    log = logging.getLogger("recllm")
    log.propagate = False
    if parent:
        log.handlers = [_SentRecords(cast(Any, parent))]
    else:
        log.handlers = [logging.NullHandler()]
        logging.getLogger("transformers").setLevel(logging.ERROR)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until this process ends
