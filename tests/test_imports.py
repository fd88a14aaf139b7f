"""The rules of the house, read off the source files: imports, where things stand, docstrings."""

import ast
import importlib.metadata
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    p for part in ("components", "data_contracts", "pipelines") for p in (ROOT / part).rglob("*.py")
)
HEAVY = {
    "torch",
    "transformers",
    "pyspark",
    "mlflow",
    "great_expectations",
    "plotly",
    "pandas",
    "pyarrow",
    "numpy",
}
COMPOSED = {"serve": {"retrieve"}}
"""What answers requests does so with the code of the steps that prepared it."""
LIGHT_FILES = {"component.py", "config.py"}


def imports(path: Path, top_level: bool) -> set[str]:
    """Return the modules that a file imports: at its top level only, or anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def step_of(module: str) -> str | None:
    parts = module.split(".")
    is_step = parts[0] == "components" and len(parts) > 1 and parts[1] not in ("shared", "step")
    return parts[1] if is_step else None


def room(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return (
        relative.parts[1]
        if relative.parts[0] == "components" and len(relative.parts) > 2
        else relative.parts[0]
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_imports_upwards_or_another_step(path: Path) -> None:
    mine, used = room(path), imports(path, top_level=False)
    if mine == "data_contracts":
        forbidden = {m for m in used if m.split(".")[0] in ("components", "pipelines", "kfp")}
    elif mine == "pipelines":
        forbidden = set()
    else:
        others = {m for m in used if step_of(m) and step_of(m) not in (mine, *COMPOSED.get(mine, ()))}
        upwards = {m for m in used if m.split(".")[0] == "pipelines"}
        kfp = (
            {m for m in used if m.split(".")[0] == "kfp"}
            if path.name not in ("component.py", "step.py")
            else set()
        )
        forbidden = others | upwards | kfp
    assert not forbidden, f"{path.relative_to(ROOT)} must not import {sorted(forbidden)}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name in LIGHT_FILES], ids=lambda p: str(p.relative_to(ROOT))
)
def test_wrappers_and_configurations_import_nothing_heavy(path: Path) -> None:
    heavy = {m for m in imports(path, top_level=True) if m.split(".")[0] in HEAVY}
    jobs = {m for m in imports(path, top_level=True) if ".job" in m}
    assert not heavy | jobs


def test_pipelines_reach_steps_through_their_light_modules_at_import_time() -> None:
    for path in (p for p in FILES if room(p) == "pipelines"):
        for module in imports(path, top_level=True):
            if step_of(module):
                assert module.split(".")[2:3] in (["component"], ["config"]), f"{path.name} imports {module}"


def test_steps_log_and_only_the_command_line_prints() -> None:
    prints = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def test_only_the_shared_template_and_stylesheet_hold_markup() -> None:
    markup = re.compile(r"</?(style|table|t[rdh]|div|span|html|body|h[1-6])\b")
    reporting = ROOT / "components" / "shared" / "reporting"
    found = [path for path in FILES if markup.search(path.read_text(encoding="utf-8"))]
    assert [path for path in found if reporting not in path.parents] == []


def test_a_folder_has_at_most_12_modules() -> None:
    modules = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert {str(folder.relative_to(ROOT)): number for folder, number in modules.items() if number > 12} == {}


def test_a_docstring_begins_with_at_most_15_words() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    long = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # The docstring of a command is its help at the terminal.
            if isinstance(node, kinds) and not any(".command" in ast.unparse(d) for d in node.decorator_list):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                long += [f"{path.relative_to(ROOT)}:{node.lineno} {first}"] if len(first.split()) > 15 else []
    assert long == []


def test_every_imported_distribution_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[<>=\[]", entry)[0] for group in groups for entry in group}
    modules = {name.split(".")[0] for path in FILES for name in imports(path, top_level=False)}
    installed = importlib.metadata.packages_distributions()  # verl has an environment of its own
    found = {
        module: {name.lower().replace("_", "-") for name in installed.get(module, ())} for module in modules
    }
    own = {"components", "data_contracts", "pipelines"}
    assert [name for name in sorted(modules - own) if found[name] and not found[name] & declared] == []


def test_what_steps_import_is_called_like_its_distribution() -> None:
    """The fingerprint of a step looks up the versions of its libraries by these names."""
    files = [path for path in FILES if path.is_relative_to(ROOT / "components")]
    modules = {name.split(".")[0] for path in files for name in imports(path, top_level=False)}
    distributions = importlib.metadata.packages_distributions()
    for module in modules - {"components", "data_contracts"}:
        found = distributions.get(module, [module])
        assert module in {name.lower().replace("-", "_") for name in found}
