"""What the docstrings in `model.py` say of its classes and fields.

A string after a field is documentation that Python throws away, so it is read from the module's
source. Only the schema needs it; nothing here runs when a configuration is loaded.
"""

import ast
import inspect
from functools import cache
from typing import Any

from spooky.config import model


def of_class(owner: type[Any]) -> str:
    """The docstring of a model class, on one line."""
    return _one_line(owner.__doc__ or "")


def of_field(owner: type[Any], name: str) -> str:
    """The docstring of a model's field, on one line; "" where it has none."""
    return _fields().get((owner.__name__, name), "")


@cache
def _fields() -> dict[tuple[str, str], str]:
    found = {}
    for owner in ast.parse(inspect.getsource(model)).body:
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
