"""The layout that docs/architecture.md shows: who imports whom, no circle of modules or folders, no long file."""
from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mxnetseg"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
PAINTER = PACKAGE / "data/sample/street.py"  # shapes and colours, one after the other


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports, inside functions too, for type checkers not."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *filter(None, [node.module])])
            # `from . import x` imports the module x, where there is one
            found.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names)
    return {name for name in found if name in MODULES and name != module}


def _statements(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _statements(child)


def folder_of(module: str) -> str:
    """Return the part of the house a module belongs to; modules of the top level are the base of all."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "base"


def arrows() -> set[tuple[str, str]]:
    """Return the arrows of the first drawing in docs/architecture.md."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"```mermaid\n(.*?)```", page, re.DOTALL)[1]
    found = set()
    for left, right in re.findall(r"^\s*([\w &]+?)\s*-->\s*([\w &]+?)\s*$", drawing, re.MULTILINE):
        found.update((a.strip(), b.strip()) for a in left.split("&") for b in right.split("&"))
    return found


def test_imports_follow_the_arrows():
    allowed = arrows()
    folders = {folder_of(module) for module in MODULES}
    allowed |= {(folder, other) for folder in folders for other in ("base", folder)}
    wrong = [f"{module} imports {other}" for module in MODULES if folder_of(module) != "base"
             for other in imports(module) if (folder_of(module), folder_of(other)) not in allowed]
    assert not wrong, "not an arrow of docs/architecture.md:\n" + "\n".join(sorted(wrong))


def test_the_drawing_shows_what_is_there():
    drawn = {name for arrow in arrows() for name in arrow}
    assert drawn == {folder_of(module) for module in MODULES} - {"base"}
    used = {(folder_of(m), folder_of(o)) for m in MODULES for o in imports(m)}
    assert arrows() <= used, "arrows without an import"


def circles(imported: dict[str, set[str]]) -> list[str]:
    """Return the circles in a graph of name -> names that it imports."""
    state: dict[str, str] = {}
    found = []

    def visit(name: str, trail: list[str]) -> None:
        state[name] = "open"
        for other in sorted(imported[name]):
            if state.get(other) == "open":
                found.append(" -> ".join([*trail[trail.index(other):], other]))
            elif other not in state:
                visit(other, [*trail, other])
        state[name] = "closed"

    for name in sorted(imported):
        if name not in state:
            visit(name, [name])
    return found


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}) == ["b -> c -> b"]


def test_no_circle_of_modules():
    found = circles({module: imports(module) for module in MODULES})
    assert not found, "\n".join(found)


def test_no_circle_of_folders():
    """Folders such as models/ and models/weights/ count apart; modules of the top level are the base of all."""
    folders = {module: path.parent for module, path in MODULES.items() if path.parent != PACKAGE}
    imported: dict[str, set[str]] = {}
    for module, folder in folders.items():
        others = {folders[other] for other in imports(module) if other in folders} - {folder}
        imported.setdefault(str(folder.relative_to(PACKAGE)), set()).update(
            str(other.relative_to(PACKAGE)) for other in others)
    found = circles(imported)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [p for p in FILES if p != PAINTER], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_long_file(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_engine_does_not_know_how_convolutions_are_computed():
    for path in (PACKAGE / "engine").glob("*.py"):
        assert not re.search("winograd|dilated", path.read_text(encoding="utf-8"), re.IGNORECASE), path.name
