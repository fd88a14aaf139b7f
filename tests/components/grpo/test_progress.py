"""Which step of a GRPO training is kept."""

import json

import numpy as np
import pytest
from scipy import stats

from components.grpo.progress import Progress

SFT = [0.2, 0.4, 0.6, 0.8]


def trained(*steps: list[float]) -> Progress:
    """Return the progress of a training with these NDCGs per prompt after its steps."""
    progress = Progress()
    progress.add_validation({"valid_ndcg@10": SFT}, [])
    for ndcg in steps:
        progress.add_step({})
        progress.add_validation({"valid_ndcg@10": ndcg}, [])
    return progress


@pytest.mark.parametrize(
    ("steps", "best"),
    [
        pytest.param([[0.2, 0.4, 0.6, 1.0]], 0, id="one prompt alone gained, exactly its error"),
        pytest.param([[0.3, 0.5, 0.6, 0.8]], 1, id="half of the prompts gained"),
        pytest.param([[1.0, 0.3, 0.6, 0.8], [0.3, 0.5, 0.6, 0.8]], 2, id="the highest mean is mostly one"),
        pytest.param([[0.3, 0.5, 0.7, 0.9], [0.3, 0.5, 0.7, 0.9]], 1, id="the earlier of equals"),
        pytest.param([SFT, [0.1, 0.3, 0.5, 0.7]], 0, id="nothing gained"),
    ],
)  # fmt: skip
def test_a_step_is_kept_if_its_gain_exceeds_the_standard_error(steps: list[list[float]], best: int) -> None:
    progress = trained(*steps)
    assert progress.best_step == best
    assert progress.kept.startswith(f"step {best}, which gained +" if best else "the SFT model: the most")
    gains = [np.subtract(ndcg, SFT) for ndcg in steps]
    real = [stats.sem(gain) + 1e-9 < gain.mean() for gain in gains]
    assert any(real) == bool(best), "as SciPy sees it"
    assert Progress.from_state(json.loads(json.dumps(progress.state_dict()))).best_step == best


def test_a_single_prompt_has_no_error() -> None:
    progress = Progress()
    for ndcg in (0.3, 0.4):
        progress.add_validation({"valid_ndcg@10": [ndcg]}, [])
        progress.add_step({})
    assert progress.best_step == 1
