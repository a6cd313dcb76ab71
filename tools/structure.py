"""Print the layers of the package: modules in import circles, and the longest import chain between folders.

    python tools/structure.py            # a summary; exit code 1 where there is a circle
    python tools/structure.py --edges    # every import between folders, with the modules that make it

All imports count: at the top of a module, inside functions, and under `TYPE_CHECKING`.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = "unharm"

Graph = dict[str, set[str]]


def module_graph(source: Path = SOURCE) -> Graph:
    """The modules of the package, each with the modules that it imports. A package's `__init__` counts as
    the module of that package's name."""
    paths = {_name(path, source): path for path in sorted((source / PACKAGE).rglob("*.py"))}
    graph: Graph = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        graph[name] = {i for i in _imports(tree, set(paths)) if i != name}
    return graph


def _name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.AST, known: set[str]) -> set[str]:
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                imported |= {whole if whole in known else node.module} & known
    return imported


def circles(graph: Graph) -> list[list[str]]:
    """The groups of nodes that reach each other (strongly connected components of two or more), largest
    first. Tarjan's algorithm (1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(components, key=len, reverse=True)


def folder_graph(graph: Graph) -> Graph:
    """The folders at the top of the package, each with the folders that it imports from. Modules beside
    the folders (`__init__`, `__main__`) are the public face and are left out."""
    folders: Graph = defaultdict(set)
    for module, targets in graph.items():
        here = _folder(module)
        if here:
            folders[here] |= {f for t in targets if (f := _folder(t)) and f != here}
    for targets in list(folders.values()):
        for folder in targets:
            folders[folder] |= set()
    return dict(folders)


def _folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (SOURCE / PACKAGE / parts[1]).is_dir() else ""


def longest_chain(graph: Graph) -> list[str]:
    """The longest chain of imports, from the top down. The graph must have no circle."""
    best: dict[str, list[str]] = {}

    def chain(node: str) -> list[str]:
        if node not in best:
            best[node] = [
                node,
                *max((chain(target) for target in sorted(graph[node])), key=len, default=[]),
            ]
        return best[node]

    return max((chain(node) for node in sorted(graph)), key=len, default=[])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--edges", action="store_true", help="list every import between folders")
    options = parser.parse_args()
    graph = module_graph()
    folders = folder_graph(graph)
    found = circles(graph)
    folder_circles = circles(folders)
    print(f"modules: {len(graph)}, in {len(found)} circles: {sum(map(len, found))}")
    for circle in found:
        print("  " + ", ".join(circle))
        for module in circle:
            print(f"    {module} -> {', '.join(sorted(graph[module] & set(circle)))}")
    print(f"folders: {len(folders)}, in circles: {sum(map(len, folder_circles))}")
    for circle in folder_circles:
        print("  " + ", ".join(circle))
    if not folder_circles:
        chain = longest_chain(folders)
        print(f"longest chain between folders: {len(chain)}: {' > '.join(chain)}")
    if options.edges:
        pairs = defaultdict(list)
        for module, targets in graph.items():
            for target in sorted(targets):
                if _folder(module) and _folder(target) and _folder(module) != _folder(target):
                    pairs[_folder(module), _folder(target)].append(f"{module} -> {target}")
        for (one, other), lines in sorted(pairs.items()):
            print(f"{one} -> {other}: {len(lines)}")
            for line in lines:
                print(f"    {line}")
    return 1 if found or folder_circles else 0


if __name__ == "__main__":
    sys.exit(main())
