"""The data steps: `run_sequences` (logs in), `run_prompts` (prompts out), `validate` (contracts alone)."""

from components.etl.prompts_job import PromptsInputs, PromptsOutputs, PromptsReport, run_prompts
from components.etl.raw import validate_raw as validate
from components.etl.sequences_job import SequencesOutputs, SequencesReport, run_sequences

__all__ = [
    "PromptsInputs",
    "PromptsOutputs",
    "PromptsReport",
    "SequencesOutputs",
    "SequencesReport",
    "run_prompts",
    "run_sequences",
    "validate",
]
