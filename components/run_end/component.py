"""KFP wrapper of the exit handler."""

from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from components.step import step


@step()
def run_end(lineage: str, status: PipelineTaskFinalStatus, summary: Output[Markdown]):
    """Write how the run ended; `lineage` is the JSON that registered models carry as tags."""
    from pathlib import Path

    from components.run_end.job import run

    run(lineage, status.state, status.error_message or "", Path(summary.path))
