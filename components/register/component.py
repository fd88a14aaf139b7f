"""KFP wrappers of the steps that use the registry: fetch the champion, register a challenger."""

from kfp.dsl import Artifact, Input, Markdown, Model, Output

from components.step import step


@step()
def champion(config: str, champion: Output[Model]):
    """Fetch the champion, or a folder with `none.txt`; `config` is JSON of RegisterConfig."""
    from pathlib import Path

    from components.register.config import RegisterConfig
    from components.register.job import run_champion
    from components.shared.config import parse

    version = run_champion(parse(RegisterConfig, config, "register"), Path(champion.path))
    champion.metadata["version"] = version or "none"


@step()
def register(
    config: str,
    lineage: str,
    model: Input[Model],
    report: Input[Artifact],
    version_info: Output[Markdown],
) -> str:
    """Register the model as challenger; return its version. `lineage` is JSON with a `run_key`."""
    from components.register.config import RegisterConfig
    from components.register.job import run
    from components.shared.artifacts.outputs import paths
    from components.shared.config import parse
    from data_contracts.evaluation import parse_lineage

    return run(
        parse(RegisterConfig, config, "register"),
        **paths(model=model, report=report, version_info=version_info),
        lineage=parse_lineage(lineage),
    )
