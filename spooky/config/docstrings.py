"""What the docstrings in the model say of its classes and fields.

A string after a field is documentation that Python throws away, so it is read from the source of
the class's module. Only the schema needs it; nothing here runs when a configuration is loaded.
"""

import ast
import inspect
import sys
from dataclasses import is_dataclass
from functools import cache
from types import ModuleType
from typing import Any


def of_class(owner: type[Any]) -> str:
    """The docstring of a model class, on one line."""
    return _one_line(owner.__doc__ or "")


def of_field(owner: type[Any], name: str) -> str:
    """The docstring of a model's field, its own or inherited, on one line; "" for none."""
    owners = (one for one in owner.__mro__ if is_dataclass(one))
    found = (_fields(sys.modules[one.__module__]).get((one.__name__, name)) for one in owners)
    return next(filter(None, found), "")


@cache
def _fields(module: ModuleType) -> dict[tuple[str, str], str]:
    found = {}
    for owner in ast.parse(inspect.getsource(module)).body:
        if not isinstance(owner, ast.ClassDef):
            continue
        for member, after in zip(owner.body, owner.body[1:], strict=False):
            match member, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[owner.name, name] = _one_line(text)
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
