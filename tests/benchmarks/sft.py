"""Measure scoring and training by candidates' scores beside plain transformers, in one run on one machine.

    python tests/benchmarks/sft.py

Both take the same model (SmolLM2-135M-Instruct) and the same prompts of 20 candidates: `label_logits` reads
a chat prompt of some 400 tokens, `title_likelihood` some 300, its own score of a title without a history
included. Ours packs a prompt's candidates into one row and several prompts into a forward pass; plain
transformers read a padded row per candidate, a prompt at a time. Training is forward and backward of the
loss over batches of 8 prompts, all weights, no update. Prints prompts per second (median of `--repeats`),
the ratios (minutes on two cores), and by how much the scores of both differ at most. `--smoke` takes
a model of random weights.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from components.base_model.config import BaseModelConfig, RandomWeights
from components.base_model.job import run as make_model
from components.sft import ranking
from components.shared.config import Answers
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.load import LanguageModel, load
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.scoring import Question, question, score_all
from components.shared.prompting.table import Asked

ANSWERS: tuple[Answers, ...] = ("label_logits", "title_likelihood")
BATCH = 8
Call = Callable[[LanguageModel, Sequence[Question]], object]
WORDS = "argan oil shampoo repair moisture cream serum brush lipstick gloss nail polish vitamin hair lavender"


def made_prompts(number: int, candidates: int) -> list[Asked]:
    """Return prompts of titles of four to nine words, drawn from one catalogue."""
    draw = random.Random(0)
    words = WORDS.split()
    catalogue = [" ".join(draw.choices(words, k=draw.randint(4, 9))).capitalize() for _ in range(1000)]
    found = []
    for _ in range(number):
        history, titles = draw.sample(catalogue, draw.randint(2, 8)), draw.sample(catalogue, candidates)
        listed = "\n".join(f"{n}. {title}" for n, title in enumerate(titles, 1))
        text = f"Recently bought: {'; '.join(history)}.\nRank these:\n{listed}"
        found.append(Asked(messages=[{"role": "user", "content": text}], titles=titles, history=history))
    return found


def plain_scores(model: Any, asked: Question) -> torch.Tensor:
    """Return the scores of one prompt's candidates from a padded row for each."""
    given = row_log_probs(model, asked.prompt, asked.answers)
    return given - row_log_probs(model, asked.alone, asked.answers) if asked.alone else given


def row_log_probs(model: Any, prompt: list[int], answers: list[list[int]]) -> torch.Tensor:
    """Return each answer's log-probability after the prompt."""
    longest = max(map(len, answers))
    padding = torch.tensor([[longest - len(answer)] for answer in answers], device=model.device)
    rows = [[0] * (longest - len(answer)) + prompt + answer for answer in answers]
    ids = torch.tensor(rows, device=model.device)
    mask = (torch.arange(ids.shape[1], device=model.device) >= padding).long()
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=longest + 1,
    ).logits[:, :-1]
    log_probs = logits.float().log_softmax(-1).gather(2, ids[:, -longest:, None]).squeeze(2)
    return (log_probs * (torch.arange(longest, device=model.device) >= padding)).sum(1)


def plain_score_all(lm: LanguageModel, questions: Sequence[Question]) -> list[list[float]]:
    """Return the scores of all prompts, one after the other."""
    with torch.inference_mode():
        return [plain_scores(lm.model, asked).tolist() for asked in questions]


def batches(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Return the collated examples of batches, the first candidate being the label."""
    examples = []
    for asked in questions:
        zeros = [0.0] * len(asked.answers)
        examples.append(
            {"question": asked, "retriever": zeros, "shares": [1.0, *zeros[1:]], "labels": [-100, 1]}
        )
    return [ranking.collate(examples[start : start + BATCH]) for start in range(0, len(examples), BATCH)]


def train(lm: LanguageModel, questions: Sequence[Question]) -> None:
    """Compute the gradients of batch after batch by the product's loss."""
    for batch in batches(questions):
        ranking.ranking_loss(lm.model, batch, Ranker()).backward()
        lm.model.zero_grad()


def plain_train(lm: LanguageModel, questions: Sequence[Question]) -> None:
    """Compute the same gradients from a padded row per candidate."""
    for start in range(0, len(questions), BATCH):
        part = questions[start : start + BATCH]
        for asked in part:
            (-plain_scores(lm.model, asked).log_softmax(0)[0] / len(part)).backward()
        lm.model.zero_grad()


def rate(call: Call, lm: LanguageModel, questions: Sequence[Question], repeats: int) -> float:
    """Return prompts per second, the median after one prompt of warm-up."""
    seconds = []
    call(lm, questions[:1])
    for _ in range(repeats):
        started = time.monotonic()
        call(lm, questions)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - started)
    return len(questions) / statistics.median(seconds)


def measured(lm: LanguageModel, questions: Sequence[Question], repeats: int) -> tuple[str, float]:
    """Return the cells of a row of the table, and the largest difference of two prompts' scores in nats."""
    pairs = zip(score_all(lm, questions[:2]), plain_score_all(lm, questions[:2]), strict=True)
    worst = max(abs(a - b) for ours, plain in pairs for a, b in zip(ours, plain, strict=True))
    cells = [f"{sum(map(len, questions)) / len(questions):.0f}"]
    calls: Sequence[tuple[Call, Call]] = ((plain_score_all, score_all), (plain_train, train))
    for pair in calls:
        plain, ours = (rate(call, lm, questions, repeats) for call in pair)
        cells += [f"{plain:.2f}", f"{ours:.2f}", f"{ours / plain:.1f}"]
    return " | ".join(cells), worst


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        random_weights = RandomWeights(hidden_size=32) if options.smoke else None
        make_model(BaseModelConfig(random_weights=random_weights), Path(folder) / "model")
        lm = load(Path(folder) / "model", "float32")
    prompts, dtype = made_prompts(options.prompts, options.candidates), torch_dtype(options.dtype)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} cores"
    print(
        f"{len(prompts)} prompts of {options.candidates} candidates, {device}, {dtype}; prompts per second:"
    )
    print("| answers | tokens | forward: plain | ours | ratio | training: plain | ours | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    differences = {}
    for answers in ANSWERS:
        questions = [question(lm.tokenizer, answers, asked) for asked in prompts]
        with torch.autocast(lm.device.type, dtype, enabled=dtype != torch.float32):
            cells, differences[answers] = measured(lm, questions, options.repeats)
        print(f"| {answers} | {cells} |", flush=True)
    print("scores differ by at most", ", ".join(f"{worst:.1g}" for worst in differences.values()), "nats")


if __name__ == "__main__":
    main()
