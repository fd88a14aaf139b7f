"""KFP wrappers of the steps that use the registry: fetch the champion, register a challenger."""

from kfp.dsl import HTML, Artifact, Input, Model, Output

from components.step import step


@step()
def champion(config: dict, version: str, fingerprint: str, champion: Output[Model]):
    """Fetch the champion, which is `version`, or a folder with `none.txt`; `fingerprint` keys the cache."""
    from pathlib import Path

    from components.register.config import RegistryConfig
    from components.register.job import run_champion
    from components.shared.config import parse

    run_champion(parse(RegistryConfig, config, "register"), version, Path(champion.path))
    champion.metadata["version"] = version or "none"


@step()
def register(
    config: dict,
    tables: dict,
    model: Input[Model],
    report: Input[Artifact],
    page: Output[HTML],
) -> str:
    """Register the model as challenger, with the lineage of its report; return its version."""
    from pathlib import Path

    from components.register.config import RegisterConfig
    from components.register.job import run
    from components.shared.artifacts.outputs import paths
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse
    from data_contracts.evaluation import REPORT, USERS

    return run(
        parse(RegisterConfig, config, "register"),
        **paths(model=model, html=page),
        served=local_copy(tables["served"]),
        report=Path(report.path) / REPORT,
        users=Path(report.path) / USERS,
    )
