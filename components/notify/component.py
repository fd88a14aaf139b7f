"""KFP wrapper of the exit handler's task."""

from kfp.dsl import PipelineTaskFinalStatus

from components.step import step


@step()
def notify(run: str, status: PipelineTaskFinalStatus):
    """Tell the webhook in RECLLM_NOTIFY_URL how the pipeline run of the id `run` ended."""
    from components.notify.job import tell

    tell(run, status.state)
