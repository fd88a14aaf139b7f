"""The data steps: `run_sequences` (logs in) and `run_prompts` (prompts out)."""

from components.etl.prompts.job import PromptsInputs, PromptsOutputs, PromptsReport, run_prompts
from components.etl.sequences.job import SequencesOutputs, SequencesReport, run_sequences

__all__ = [
    "PromptsInputs",
    "PromptsOutputs",
    "PromptsReport",
    "SequencesOutputs",
    "SequencesReport",
    "run_prompts",
    "run_sequences",
]
