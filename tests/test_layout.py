"""The package keeps its shape: imports go one way, files stay short, every module has its tests."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "roundview"
LAYERS = (
    {
        "rotation",
        "camera",
        "image",
        "views",
        "gaussians",
        "mesh",
        "models",
        "frames",
        "kernels",
        "kernels_triton",
    },
    {"segment", "features", "losses", "diffusion", "splat", "field", "surface"},
    {"recipes"},
    {
        *("photo", "export", "weights", "data", "metrics", "evaluate", "train", "stages"),
        *(
            "pipeline",
            "loaders",
            "methods",
            "memory",
            "warming",
            "parity",
            "importing",
            "public",
            "public_models",
            "batch",
            "serve",
            "cli",
            "__init__",
            "__main__",
        ),
    },
)
EXAMPLES = sorted((REPOSITORY / "examples").glob("[0-9]*.py"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The file or folder right under the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(unit: str) -> int:
    return next((i for i, layer in enumerate(LAYERS) if unit in layer), -1)


def units_imported_by(path: Path) -> set[str]:
    """Top-level parts of the package that a module imports, inside functions as well."""
    package = ("roundview", *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [base] if len(base) > 1 else [[*base, alias.name] for alias in node.names]
        else:
            continue
        found |= {t[1] for t in targets if t[0] == "roundview" and len(t) > 1}
    return {unit for unit in found if layer_of(unit) >= 0}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = unit_of(path)
    assert layer_of(own) >= 0, f"{own} is in no layer: give it a place in LAYERS"
    for other in units_imported_by(path) - {own}:
        assert layer_of(other) <= layer_of(own), f"{path.name} imports {other}, from a layer below"
        both_verbs = layer_of(own) == layer_of(other) == 1
        # Losses are functions of pictures that every fit uses.
        assert not both_verbs or other == "losses", f"verbs {own} and {other} must stay apart"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_has_its_tests(path: Path) -> None:
    # A kernel is tested against its reference, in the reference's file.
    if path.stem == "__init__" or path.stem.endswith(("_numba", "_triton")):
        return
    inside = path.relative_to(PACKAGE).parent
    assert (REPOSITORY / "tests" / inside / f"test_{path.stem}.py").exists()


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.name)
def test_examples_are_short(script: Path) -> None:
    assert len(script.read_text().splitlines()) <= 60


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.name)
def test_examples_run(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
