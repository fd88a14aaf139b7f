"""Running out of memory, on a CPU for real and on a GPU by its error."""

import pytest
import torch

from components.shared.errors import TrainingError
from components.shared.language_model.checks import explain_oom


def test_a_machine_out_of_memory_says_how_much_and_what_to_do():
    message = r"out of memory \(.*1152921504606846976 bytes.*\); lower it"
    with pytest.raises(TrainingError, match=message), explain_oom("lower it"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), MemoryError()])
def test_other_ways_of_saying_it(error):
    with pytest.raises(TrainingError, match="lower it"), explain_oom("lower it"):
        raise error


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes"), explain_oom("lower it"):
        raise RuntimeError("shapes do not fit")
