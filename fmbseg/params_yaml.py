"""Reads a YAML file of parameters, and says in one line what is wrong with one."""

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


class ParamsError(ValueError):
    """A parameter is unknown, missing or out of range; the text is one short line."""


def read_tree(path: Path) -> dict[str, Any]:
    """The sections of a YAML file, not checked yet.

    Raises:
        ParamsError: no file, no YAML, no sections, or a key that stands twice in its section.
    """
    if not path.is_file():
        raise ParamsError(f"{path}: no such file; `fmbseg run` and `fmbseg init` write one")
    try:
        tree = yaml.load(path.read_text(), _StrictLoader)
    except _TwiceError as error:
        raise ParamsError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).replace("\n", " ")
        raise ParamsError(f"{path}: not valid YAML: {line}") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: found no sections; wanted those of the shipped file")
    return tree


class _TwiceError(yaml.YAMLError):
    """A key stands twice in one section."""


class _StrictLoader(yaml.SafeLoader):
    """YAML's plain values alone; a key that stands twice is an error, not the last one's say."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A section, once no key of it was found twice."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _TwiceError(
                    f"the key {key.value} stands twice in its section, in lines "
                    f"{lines[key.value]} and {line}; delete one of them"
                )
            lines[key.value] = line
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_RENAMED = {"evaluate.column_images": "evaluate.view_images"}
"""Keys of former versions to what they are called now."""


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One line on what is wrong: an unknown key goes first, with the known one next to it.

    Args:
        error: of a tree that was checked against the model.
        model: holds the known keys.
    """
    found = error.errors()
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    first = (unknown or found)[0]
    dotted, rest = _dotted(first), len(found) - 1
    if not unknown:
        return f"{dotted}: {_said(first)}{_more(rest)}"
    meant = _nearest(dotted, model)
    if meant is None:
        return f"{dotted}: unknown key{_more(rest)}"
    rest -= sum(one["type"] == "missing" and _dotted(one) == meant for one in found)
    return f"{dotted}: unknown key; did you mean {meant}?{_more(rest)}"


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _dotted(error: ErrorDetails) -> str:
    kinds = ("float", "int", "literal", "constrained", "function")
    parts = [p for p in error["loc"] if not (isinstance(p, str) and p.startswith(kinds))]
    return ".".join(str(part) for part in parts)


def _said(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return (
            "missing; params.yaml holds every default: add it, or take today's defaults with "
            "--reset-params (RESET_PARAMS=1), which keeps images and classes"
        )
    if error["type"] == "value_error":
        return f"found {error['input']!r}; {error['ctx']['error']}"
    return f"found {error['input']!r}; {error['msg'].lower()}"


def _nearest(dotted: str, model: type[BaseModel]) -> str | None:
    """The known key that an unknown one may stand for: one spelt alike, or of another section."""
    if dotted in _RENAMED:
        return _RENAMED[dotted]
    known = keys_of(model)
    *section, name = dotted.split(".")
    beside = [key for key in known if key.split(".")[:-1] == section]
    alike = difflib.get_close_matches(name, [key.split(".")[-1] for key in beside], 1)
    if alike:
        return ".".join([*section, alike[0]])
    elsewhere = [key for key in known if key.split(".")[-1] == name]
    return elsewhere[0] if elsewhere else None


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted key of every section and value, as the model declares them."""
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{prefix}{name}")
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += keys_of(kind, f"{prefix}{name}.")
    return found


def value_at(tree: Any, dotted: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for part in dotted.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
