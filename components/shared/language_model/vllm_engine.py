"""Answers by vLLM: on every GPU a process of its own with the whole model and a share of the prompts.

vLLM refuses data parallelism inside one offline process and names this way for models that a GPU can hold:
https://docs.vllm.ai/en/latest/serving/data_parallel_deployment/
"""

import importlib.util
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from components.shared.config import Dtype
from components.shared.errors import ConfigError
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.generate import Completion, completion
from components.shared.language_model.grammar import ConstrainedAnswer, Grammar, Shape, restrict
from components.shared.language_model.load import (
    Message,
    answer_prefix,
    check_folder,
    encode_prefill,
    encode_prompt,
    end_tokens,
    load_tokenizer,
)
from components.shared.processes import die_with_parent

CHUNK = 1024
"""Most prompts that a process answers at a time, between two reports of progress."""


@dataclass(frozen=True)
class _Settings:
    """What a process needs to load the model; `gpu` is "" for a CPU."""

    folder: Path
    dtype: str
    gpu: str
    seed: int


@dataclass(frozen=True)
class _Request:
    """One prompt as tokens, how its answer begins, and what is a valid one."""

    token_ids: list[int]
    prefill: str
    shape: Shape | None


class VllmModel:
    """A model in one process per GPU, or in one on the CPU."""

    def __init__(
        self, folder: Path, pools: Sequence[ProcessPoolExecutor], settings: Sequence[_Settings]
    ) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._pools, self._settings = pools, settings

    def complete(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        prefills: Sequence[str] | None = None,
        shapes: Sequence[Shape] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """Return one completion of each of the chat `prompts`, as `generate.complete` does."""
        if not prompts:
            return []
        begun = prefills or [answer_prefix(self._tokenizer)] * len(prompts)
        limits: Sequence[Shape | None] = shapes or [None] * len(prompts)
        requests = [
            _Request(
                encode_prompt(self._tokenizer, prompt) + encode_prefill(self._tokenizer, prefill),
                prefill,
                shape,
            )
            for prompt, prefill, shape in zip(prompts, begun, limits, strict=True)
        ]
        size = min(CHUNK, math.ceil(len(requests) / len(self._pools)))
        futures = {}
        for number, start in enumerate(range(0, len(requests), size)):
            worker = number % len(self._pools)
            asked = (self._settings[worker], requests[start : start + size], max_new_tokens, temperature)
            futures[self._pools[worker].submit(_complete, *asked)] = start
        answered: list[list[Completion]] = [[] for _ in requests]
        done = 0
        for future in as_completed(futures):
            for place, found in enumerate(future.result(), start=futures[future]):
                answered[place] = [found]
            done += len(future.result())
            if progress:
                progress(done)
        return answered


def check_installed(remedy: str) -> None:
    """Raise ConfigError with the `remedy` unless vLLM is installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"the engine is vllm, but the package vllm is not installed here; {remedy}")


@contextmanager
def opened(folder: Path, dtype: Dtype, seed: int) -> Iterator[VllmModel]:
    """Yield the model in `folder`, whose processes end with the block.

    Raises: ConfigError where vLLM is not installed.
    """
    check_installed("run the step in the trainer image, or set evaluate.engine to transformers")
    check_folder(folder)
    name = str(torch_dtype(dtype)).removeprefix("torch.")
    settings = [_Settings(folder.resolve(), name, gpu, seed) for gpu in _gpus()]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = []
        for _ in settings:
            pools.append(ProcessPoolExecutor(1, mp_context=context, initializer=die_with_parent))
            stack.callback(pools[-1].shutdown, cancel_futures=True)
        loading = [pool.submit(_complete, one, [], 1, 0.0) for pool, one in zip(pools, settings, strict=True)]
        for future in loading:
            future.result()
        yield VllmModel(folder, pools, settings)


def _gpus() -> list[str]:
    """Return each visible GPU as CUDA_VISIBLE_DEVICES names it; [""] without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()] or [""]


_MODEL: list["_Loaded"] = []
"""The model of this worker process, once it is loaded."""


def _complete(
    settings: _Settings, requests: Sequence[_Request], max_new_tokens: int, temperature: float
) -> list[Completion]:
    """Return the completions of `requests`, in a worker process."""
    if not _MODEL:
        _MODEL.append(_Loaded(settings))
    return _MODEL[0].complete(requests, max_new_tokens, temperature)


class _Loaded:
    """vLLM with the model, in this process."""

    def __init__(self, settings: _Settings) -> None:
        os.environ |= {
            "CUDA_VISIBLE_DEVICES": settings.gpu,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # this process is the model's own already
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }
        from vllm import LLM

        self.answers: dict[int, ConstrainedAnswer] = {}
        self.llm = LLM(
            str(settings.folder),
            dtype=settings.dtype,
            seed=settings.seed,
            load_format="safetensors",
            trust_remote_code=False,
            enforce_eager=not settings.gpu,  # what is compiled for a CPU costs more than it saves here
            async_scheduling=False,  # a constraint must know the token before
            logits_processors=[_processor(self.answers)],
        )
        self.tokenizer = load_tokenizer(settings.folder)
        configured = self.llm.model_config.try_get_generation_config().get("eos_token_id")
        self.stop_ids = end_tokens(self.tokenizer, configured)
        self.grammar = Grammar(self.tokenizer, self.stop_ids)

    def complete(
        self, requests: Sequence[_Request], max_new_tokens: int, temperature: float
    ) -> list[Completion]:
        """Return the completions of `requests`."""
        from vllm import SamplingParams

        parameters = {
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "stop_token_ids": sorted(self.stop_ids),
            "detokenize": False,
        }
        self.answers.clear()
        for number, request in enumerate(requests):
            if request.shape:
                answer = ConstrainedAnswer(self.grammar, request.shape, max_new_tokens, request.prefill)
                self.answers[number] = answer
        outputs = self.llm.generate(
            [{"prompt_token_ids": request.token_ids} for request in requests],
            [SamplingParams(**parameters, extra_args={NUMBER: number}) for number in range(len(requests))],
            use_tqdm=False,
        )
        return [
            self._completion(request, list(output.outputs[0].token_ids), self.answers.get(number))
            for number, (request, output) in enumerate(zip(requests, outputs, strict=True))
        ]

    def _completion(self, request: _Request, ids: list[int], answer: ConstrainedAnswer | None) -> Completion:
        if answer:
            answer.take_up_to(ids)
        return completion(self.tokenizer, self.stop_ids, request.prefill, ids, answer)


NUMBER = "recllm_answer"
"""Under this name a request of vLLM has its number."""


def _processor(answers: Mapping[int, ConstrainedAnswer]) -> type:
    """Return a logits processor of vLLM that holds requests to their `answers`."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class HoldsToAnswers(AdapterLogitsProcessor):
        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: Any) -> Any:
            answer = answers.get((params.extra_args or {}).get(NUMBER, -1))
            return partial(_caught_up, answer) if answer else None

        def apply(self, logits: torch.Tensor) -> torch.Tensor:
            restrict(logits, {row: state(logits) for row, state in self.req_info.items()})
            return logits

    return HoldsToAnswers


def _caught_up(
    answer: ConstrainedAnswer, token_ids: Sequence[int], logits: torch.Tensor
) -> ConstrainedAnswer:
    """Return `answer` after all its `token_ids`, as vLLM calls it."""
    answer.take_up_to(token_ids)
    return answer
