"""Print how the package is built: `python -m tools.house`. What each figure counts:

- `files`, `lines`: the package's `.py` files.
- `functions`: every `def`, methods and nested ones too. `function_lines_median` and
  `function_lines_p90` count from `def` to the last line, with the docstring and without decorators.
- `modules_entered`, `functions_called`, `blocks_run`, `hops`, `links`: the smallest run, which
  `tools/house_run.py` explains.
- `files_with_one_importer`: modules that exactly one other file of the package imports. The list says
  how long the two would be as one: beyond 500 lines they stay two. Modules that are also found by name are
  counted, too: commands (`cli/app.py`), and components (an entry point).
- `names_used_twice`: public top-level classes and functions with one name in two modules.
  `module_names_used_twice`: the same for modules and packages, by the last part of their name.
- `undocumented_imports`: names of dlt and Dagster imported outside the compat files (`_COMPAT`) that have
  a part that starts with an underscore or that `undocumented.toml` lists. Each file counts.
  A name that is only reached as an attribute, or by its name as text, is not seen.
- `comments_per_100_lines`: comments, apart from `noqa`, `type:` and the like, which
  `comments_and_directives_per_100_lines` counts too.
- `docstring_percent`: of modules, public classes, functions and methods, those with a docstring.

`tools/house_before.json` holds the figures from before the package was laid out anew.
"""

import argparse
import ast
import io
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

__all__ = ["House", "main", "static_figures"]

_HERE = Path(__file__).parent
_COMPAT = (
    "engine/dlt_compat.py",
    "orchestration/dagster_compat.py",
    "local_runtime/dagster_internals.py",
)
_DIRECTIVE = re.compile(r"#\s*(noqa|type:|pragma|ruff:|mypy:|fmt:)")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_GOALS = {
    "modules_entered": "<= 80",
    "hops": "<= 350",
    "files_with_one_importer": "<= 15",
    "names_used_twice": "0",
    "undocumented_imports": "0",
    "comments_per_100_lines": ">= 3",
}


class House(TypedDict):
    """The document of `--json`: the figures by name, and what is behind those that have a list."""

    figures: dict[str, float]
    lists: dict[str, list[str]]


@dataclass(frozen=True)
class _Module:
    name: str
    path: str
    source: str
    tree: ast.Module
    is_package: bool

    @property
    def imported(self) -> Iterator[str]:
        """The dotted name of each import anywhere in the file; a relative one in full."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                own = self.name.split(".")
                above = own[: len(own) - node.level + self.is_package] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{origin}.{alias.name}" for alias in node.names)

    @property
    def functions(self) -> Iterator[_Function]:
        """Every function of the file, methods and nested ones included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, _FUNCTIONS))


def static_figures(package: Path) -> House:
    """Return the figures that need only the files of the package in this folder."""
    modules = list(_modules(package))
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1 for m in modules for node in m.functions
    )
    lines = sum(len(module.source.splitlines()) for module in modules)
    lists = {
        "files_with_one_importer": _with_one_importer(modules),
        "names_used_twice": _used_twice(
            (node.name, module.path)
            for module in modules
            for node in module.tree.body
            if isinstance(node, (ast.ClassDef, *_FUNCTIONS)) and not node.name.startswith("_")
        ),
        "module_names_used_twice": _used_twice(
            (module.name.split(".")[-1], module.path) for module in modules
        ),
        "undocumented_imports": _undocumented_imports(modules),
    }
    texts = [text for module in modules for text in _comments(module)]
    comments, directives = len(texts), sum(bool(_DIRECTIVE.match(text)) for text in texts)
    documented = [text for module in modules for text in _docstrings(module.tree)]
    figures: dict[str, float] = {
        "files": len(modules),
        "lines": lines,
        "functions": len(lengths),
        "function_lines_median": statistics.median(lengths or [0]),
        "function_lines_p90": lengths[math.ceil(0.9 * len(lengths)) - 1] if lengths else 0,
        **{name: len(found) for name, found in lists.items()},
        "comments_per_100_lines": _per_100(comments - directives, lines),
        "comments_and_directives_per_100_lines": _per_100(comments, lines),
        "docstring_percent": _per_100(sum(map(bool, documented)), len(documented)),
    }
    return {"figures": figures, "lists": lists}


def _modules(package: Path) -> Iterator[_Module]:
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package.parent)
        parts = path.parent.parts if file.name == "__init__.py" else path.with_suffix("").parts
        source = file.read_text(encoding="utf-8")
        yield _Module(
            ".".join(parts), path.as_posix(), source, ast.parse(source), file.name == "__init__.py"
        )


def _with_one_importer(modules: list[_Module]) -> list[str]:
    importers: dict[str, set[str]] = {module.name: set() for module in modules}
    lines = {module.path: len(module.source.splitlines()) for module in modules}
    for module in modules:
        for name in module.imported:
            # the last part of an imported name is a module or a name in one
            for target in (name, name.rpartition(".")[0]):
                if target in importers:
                    importers[target].add(module.path)
                    break
    return sorted(
        f"{module.path} <- {next(iter(found))}, {lines[module.path] + lines[next(iter(found))]} lines"
        for module in modules
        if len(found := importers[module.name] - {module.path}) == 1 and not module.is_package
    )


def _used_twice(definitions: Iterable[tuple[str, str]]) -> list[str]:
    places: dict[str, set[str]] = defaultdict(set)
    for name, path in definitions:
        places[name].add(path)
    return sorted(
        f"{name}: {', '.join(sorted(found))}" for name, found in places.items() if len(found) > 1
    )


def _undocumented_imports(modules: list[_Module]) -> list[str]:
    listed = tomllib.loads((_HERE / "undocumented.toml").read_text(encoding="utf-8"))
    return sorted(
        {
            f"{module.path}: {name}"
            for module in modules
            if not module.path.endswith(_COMPAT)
            for name in module.imported
            if re.match(r"(dlt|dagster\w*)\.", name)
            if "._" in name or any(f"{name}.".startswith(f"{entry}.") for entry in listed)
        }
    )


def _comments(module: _Module) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(module.source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def _per_100(count: int, of: int) -> float:
    return round(100 * count / max(of, 1), 1)


def _docstrings(node: ast.Module | ast.ClassDef) -> Iterator[str | None]:
    yield ast.get_docstring(node)
    for child in node.body:
        if isinstance(child, (ast.ClassDef, *_FUNCTIONS)) and not child.name.startswith("_"):
            if isinstance(child, ast.ClassDef):
                yield from _docstrings(child)
            else:
                yield ast.get_docstring(child)


def _run_figures(package: Path) -> dict[str, float]:
    """Measure the smallest run, with the package of this folder and the libraries of this Python."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESTSOURCE_")}
    environment["PYTHONPATH"] = str(package.parent)
    command = [sys.executable, str(_HERE / "house_run.py"), package.name]
    # in an empty folder, so that no .env is read
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=folder
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _table(now: House, before: House | None) -> Iterator[str]:
    yield f"{'':38}{'before':>10}{'now':>10}  goal" if before else f"{'':38}{'now':>10}  goal"
    for name, value in now["figures"].items():
        was = f"{before['figures'].get(name, '-'):>10}" if before else ""
        yield f"{name:38}{was}{value:>10}  {_GOALS.get(name, '')}".rstrip()


def main(arguments: list[str] | None = None) -> None:
    """Print the figures as a table or, with `--json`, as one document."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.house", description="Print how the package is built."
    )
    parser.add_argument(
        "--package", type=Path, default=_HERE.parent / "restsource_dagster", help="its folder"
    )
    parser.add_argument("--no-run", action="store_true", help="leave out the smallest run")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--compare", type=Path, help="an older document, shown beside")
    parser.add_argument("--verbose", action="store_true", help="list what is counted")
    chosen = parser.parse_args(arguments)
    package = chosen.package.resolve()
    house = static_figures(package)
    if not chosen.no_run:
        house["figures"] |= _run_figures(package)
    if chosen.json:
        print(json.dumps(house, indent=2))
        return
    before = json.loads(chosen.compare.read_text(encoding="utf-8")) if chosen.compare else None
    print("\n".join(_table(house, before)))
    for name, found in house["lists"].items() if chosen.verbose else ():
        print("", name, *(f"  {line}" for line in found), sep="\n")


if __name__ == "__main__":
    main()
