"""YAML text with the line of every field, and overrides of `--set key=value`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from unharm.core.errors import Problem, UserError

Loc = tuple[str | int, ...]


class SpecText:
    """The plain data of a YAML document and the line of each field."""

    def __init__(self, text: str, name: str):
        self.name = name
        self.lines: dict[Loc, str] = {}
        self.problems: list[Problem] = []
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = f":{mark.line + 1}" if mark else ""
            raise UserError(
                f"not valid YAML: {error.problem or error.context}",
                f"{name}{line}",
                "check the indentation, the quotes and the colons around this line",
            ) from None
        except yaml.YAMLError as error:
            raise UserError(f"not readable as YAML text: {error}", name) from None
        data = self._plain(node, ()) if node is not None else {}
        if not isinstance(data, dict):
            raise UserError("a study is a mapping of fields", f"{name}:1", "see studies/touche.yaml")
        self.data: dict[str, Any] = data

    def _plain(self, node: yaml.Node, loc: Loc) -> Any:
        """Convert a node to plain data and record its line."""
        self.lines[loc] = f"{self.name}:{node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            result: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = yaml.SafeLoader("").construct_object(key_node)
                where = f"{self.name}:{key_node.start_mark.line + 1}"
                if not isinstance(key, (str, int, float, bool)):
                    self.problems.append(Problem("a field name must be a word", where))
                    continue
                if key in result:
                    self.problems.append(
                        Problem(f"the field {key!r} is given twice", where, "keep one of them")
                    )
                result[key] = self._plain(value_node, (*loc, str(key)))
                self.lines[(*loc, str(key))] = where
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*loc, i)) for i, item in enumerate(node.value)]
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append(Problem(f"not readable: {error}", self.lines[loc]))
            return None

    def override(self, assignment: str) -> None:
        """Apply one `--set key.sub=value`. The value is parsed as YAML. Raise `UserError` if invalid."""
        key, eq, value = assignment.partition("=")
        where = f"--set {assignment}"
        if not eq or not key.strip():
            raise UserError("expected key=value", where, "for example: --set seed=7")
        try:
            plain = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError("the value is not valid YAML", where, "quote it") from None
        target: Any = self.data
        path = key.strip().split(".")
        for depth, part in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(target, list):
                if not part.isdigit() or int(part) >= len(target):
                    raise UserError(f"{part!r} is not a position in this list", where)
                index = int(part)
                if last:
                    target[index] = plain
                else:
                    target = target[index]
            elif isinstance(target, dict):
                if last:
                    target[part] = plain
                elif not isinstance(target.get(part), (dict, list)):
                    target[part] = {}
                    target = target[part]
                else:
                    target = target[part]
            else:
                raise UserError(f"{'.'.join(path[:depth])} has no fields", where)
        loc: Loc = tuple(int(p) if p.isdigit() else p for p in path)
        self.lines = {k: v for k, v in self.lines.items() if k[: len(loc)] != loc}
        self.lines[loc] = where

    def where(self, loc: Loc) -> str:
        """Return file and line (or `--set …`) of a field, or of the closest field that contains it."""
        known = loc
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known, self.name)
        field = ".".join(str(part) for part in loc)
        return f"{line}: {field}" if field else line


def read_text(path: Path, content: str) -> str:
    """Return the text of a UTF-8 file without a byte-order mark. Raise `UserError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{content}: no such file", str(path), "check the path") from None
    except IsADirectoryError:
        raise UserError(f"{content}: this is a folder, expected a file", str(path)) from None
    except NotADirectoryError:
        raise UserError(f"{content}: no such file", str(path), "check the path") from None
    except PermissionError:
        raise UserError(f"{content}: no permission to read it", str(path)) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{content}: not UTF-8 text (byte {error.start})", str(path), "save it as UTF-8"
        ) from None
