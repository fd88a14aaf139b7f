"""Whether a model's reasoning has any influence on its answer (superficial chain of thought)."""

from collections.abc import Sequence

import numpy as np

from components.evaluate.config import EvaluateConfig
from components.shared.language_model.generate import complete
from components.shared.language_model.load import LanguageModel
from components.shared.prompting import answer
from components.shared.prompting.table import PromptRow


def ignored_share(
    config: EvaluateConfig, lm: LanguageModel, prompts: Sequence[PromptRow], texts: Sequence[str]
) -> tuple[float | None, int]:
    """Return the share of answers that another user's reasoning leaves unchanged, and the probes.

    A seeded sample of at most `config.reasoning_probes` well-formed answers is generated again (greedily),
    each after the reasoning of the next answer in the sample. Pairs with the same reasoning are left out;
    the share is None if no pair remains.
    """
    parsed = [answer.parse(text) for text in texts]
    usable = [i for i, given in enumerate(parsed) if given.well_formed]
    order = np.random.default_rng(config.seed).permutation(usable)
    chosen = order[: config.reasoning_probes].astype(int).tolist()
    swapped = zip(chosen, chosen[1:] + chosen[:1], strict=True)
    pairs = [(i, j) for i, j in swapped if parsed[i].reasoning != parsed[j].reasoning]
    if not pairs:
        return None, 0
    completions = complete(
        lm,
        [prompts[i].messages for i, _ in pairs],
        prefills=[f"<think>{parsed[j].reasoning}</think><answer>" for _, j in pairs],
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
    )
    probed = [answer.parse(samples[0].text).numbers for samples in completions]
    unchanged = sum(numbers == parsed[i].numbers for numbers, (i, _) in zip(probed, pairs, strict=True))
    return unchanged / len(pairs), len(pairs)
