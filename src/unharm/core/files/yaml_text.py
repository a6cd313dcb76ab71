"""YAML text with the line of every field, and overrides of `--set key=value`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from unharm.core.errors import Problem, UserError
from unharm.core.printable import text_problem

Loc = tuple[str | int, ...]


DEEPEST = 60
"""Levels of lists and mappings in each other."""
MOST_REPEATS = 10_000
"""Items that aliases may repeat: nine aliases of nine aliases, nine times over, are 400 million."""
MOST_BITS = 1000
"""Size of a whole number: larger ones are no floating-point number, and Python does not print them."""
YAML_TAG = "tag:yaml.org,2002:"
SCALARS = ("str", "int", "float", "bool", "null")
"""Kinds of values that JSON has too, so that what is read can be stored."""


class SpecText:
    """The plain data of a YAML document and the line of each field."""

    def __init__(self, text: str, name: str):
        self.name = name
        self.lines: dict[Loc, str] = {}
        self.problems: list[Problem] = []
        node = _compose(text, name)
        data = _Plain(self).convert(node, ()) if node is not None else {}
        if not isinstance(data, dict):
            raise UserError("a study is a mapping of fields", f"{name}:1", "see studies/touche.yaml")
        self.data: dict[str, Any] = data

    def override(self, assignment: str) -> None:
        """Apply one `--set key.sub=value`. The value is parsed as YAML. Raise `UserError` if invalid."""
        key, eq, value = assignment.partition("=")
        where = f"--set {assignment}"
        if not eq or not key.strip():
            raise UserError("expected key=value", where, "for example: --set seed=7")
        plain = _value(value, where)
        target: Any = self.data
        path = key.strip().split(".")
        for depth, part in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(target, list):
                if not _is_position(part) or int(part) >= len(target):
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
        loc: Loc = tuple(int(p) if _is_position(p) else p for p in path)
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


def _is_position(part: str) -> bool:
    """Return whether a part of a field's name is a position in a list. `²` is a digit, and no number."""
    return part.isascii() and part.isdecimal() and len(part) < 10


def _compose(text: str, name: str) -> yaml.Node | None:
    """Return the document as nodes. Raise `UserError` if it is not one YAML document."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
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
    except RecursionError:
        raise _too_deep(name) from None
    return node


def _too_deep(where: str) -> UserError:
    return UserError(f"lists or mappings are nested more than {DEEPEST} deep", where, "write it flat")


def _value(text: str, where: str) -> Any:
    """Return the value of an assignment. Raise `UserError` if it is not valid YAML."""
    try:
        node = _compose(text, where)
    except UserError as error:
        if "nested" in error.problems[0].message:
            raise
        raise UserError("the value is not valid YAML", where, "quote it") from None
    holder = SpecText("", where)
    plain = _Plain(holder).convert(node, ()) if node is not None else None
    if holder.problems:
        raise UserError("the value is not valid YAML: " + holder.problems[0].message, where, "quote it")
    return plain


class _Plain:
    """Converts nodes to plain data, within bounds, and records their lines and problems."""

    def __init__(self, text: SpecText):
        self.text = text
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._repeats = 0

    def convert(self, node: yaml.Node, loc: Loc) -> Any:
        """Return the data of a node at a place.

        Raises:
            UserError: It is nested too deeply, repeats too much by aliases, or is inside itself.
        """
        where = f"{self.text.name}:{node.start_mark.line + 1}"
        self.text.lines[loc] = where
        if len(loc) > DEEPEST:
            raise _too_deep(where)
        if id(node) in self._open:
            raise UserError("an alias (*) inside the anchor (&) that it names", where, "write it out")
        if id(node) in self._seen:
            self._repeats += 1
            if self._repeats > MOST_REPEATS:
                raise UserError(
                    f"aliases (*) repeat more than {MOST_REPEATS:,} items", where, "write the fields out"
                )
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            field = ".".join(map(str, loc))
            return self._scalar(node, f"{where}: {field}" if field else where)
        if node.tag not in (f"{YAML_TAG}map", f"{YAML_TAG}seq"):
            self._unknown_tag(node, where)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, loc)
            return [self.convert(item, (*loc, i)) for i, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            where = f"{self.text.name}:{key_node.start_mark.line + 1}"
            if key_node.tag == f"{YAML_TAG}merge":
                message = "merge keys (<<) are not supported"
                self.text.problems.append(Problem(message, where, "write the merged fields out"))
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == f"{YAML_TAG}null":
                self.text.problems.append(Problem("a field name must be a word", where))
                continue
            key = self._text(key_node.value, where)  # as it is written: `yes` and `1` are names
            if key in result:
                message = f"the field {key!r} is given twice"
                self.text.problems.append(Problem(message, where, "keep one of them"))
            result[key] = self.convert(value_node, (*loc, key))
            self.text.lines[(*loc, key)] = where
        return result

    def _scalar(self, node: yaml.ScalarNode, where: str) -> Any:
        kind = node.tag.removeprefix(YAML_TAG)
        if kind == "timestamp":  # a date is the text that it is written as
            return node.value
        if kind not in SCALARS:
            self._unknown_tag(node, where)
            return None
        try:
            value = yaml.SafeLoader("").construct_object(node)
            if isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise ValueError("a number with too many digits")
            return self._text(value, where) if isinstance(value, str) else value
        except (yaml.YAMLError, ValueError, ArithmeticError, IndexError, AttributeError) as error:
            message = str(getattr(error, "problem", None) or error).splitlines()[0][:200]
            self.text.problems.append(Problem(f"not readable: {message}", where))
            return None

    def _unknown_tag(self, node: yaml.Node, where: str) -> None:
        message = f"unknown tag {node.tag.rpartition(':')[2]!r}"
        self.text.problems.append(Problem(message, where, "remove it"))

    def _text(self, value: str, where: str) -> str:
        """Return a text. One that cannot be stored is a problem, and what is wrong in it is replaced.

        JSON, which is read as YAML too, writes characters beyond 16 bits as two halves.
        """
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if problem := text_problem(value):
            self.text.problems.append(Problem(problem, where, "write it without"))
            return value.encode("utf-8", "replace").decode().replace("\0", "?")
        return value


def read_text(path: Path, content: str) -> str:
    """Return the text of a UTF-8 file without a byte-order mark. Raise `UserError` if it cannot be read."""
    try:
        if not path.is_file() and path.exists() and not path.is_dir():
            raise UserError(f"{content}: this is a device or a pipe, expected a file", str(path))
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{content}: no such file", str(path), "check the path") from None
    except IsADirectoryError:
        raise UserError(f"{content}: this is a folder, expected a file", str(path)) from None
    except NotADirectoryError:
        raise UserError(f"{content}: no such file", str(path), "check the path") from None
    except PermissionError:
        raise UserError(f"{content}: no permission to read it", str(path)) from None
    except OSError as error:
        raise UserError(
            f"{content}: cannot be read ({error.strerror})", str(path), "check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{content}: not UTF-8 text (byte {error.start})", str(path), "save it as UTF-8"
        ) from None
