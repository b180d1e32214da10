"""An import never points upwards: models <- weights <- service, and inside the service from room to room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_SERVER = ("fastapi", "starlette", "uvicorn")

# The rooms of the service, from the bottom up: each may import those before it.
ROOMS = ("engine", "configuration", "images", "link", "http", "replica", "capacity", "commands")

# What else each package must not import, by dotted prefix.
FORBIDDEN = {
    "models": ("weights", "service", "benchmarks", *_SERVER, "pydantic", "typer", "rich"),
    "weights": ("service", "benchmarks", *_SERVER),
    "service": ("benchmarks",),
    "service/engine": ("service.settings", *_SERVER, "pydantic"),
    "service/configuration": _SERVER,
    "service/images": _SERVER,
    "service/link": _SERVER,
    "service/capacity": _SERVER,
}
for number, room in enumerate(ROOMS):
    above = tuple(f"service.{other}" for other in ROOMS[number + 1 :])
    FORBIDDEN[f"service/{room}"] = (*FORBIDDEN.get(f"service/{room}", ()), "service.cli", *above)


def imported_modules(source: str) -> set[str]:
    """Every module a source file imports, anywhere in it; relative imports as they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module)
    return names


def violations(package: str, source: str) -> set[str]:
    """Imports in `source` that the package may not have; a relative one, ever."""
    return {
        name
        for name in imported_modules(source)
        for prefix in FORBIDDEN[package]
        if name == prefix or name.startswith((".", f"{prefix}."))
    }


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_nothing_above_itself(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {str(file.relative_to(ROOT)): violations(package, file.read_text()) for file in files}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("models", "from weights.store import load"),
        ("weights", "def f():\n    import service.engine"),
        ("service/engine", "from service import http"),
        ("service/link", "from service.http.context import Context"),
        ("service/http", "import service.replica.backend"),
        ("service/engine", "import fastapi.responses"),
        ("service", "from .errors import ServiceError"),
    ],
)
def test_violations_upward_or_relative_import_is_found(package: str, source: str) -> None:
    assert violations(package, source)
