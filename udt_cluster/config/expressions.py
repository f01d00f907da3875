"""Constraints of a sweep: comparisons of numbers and fields, read as data and never run as code."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod},
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt},
    **{ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne},
}
_LONGEST = 200
_EXAMPLE = "a comparison of numbers and fields, such as parameters <= 40e6 or train.lr * 100 <= model.dropout"


class Constraint:
    """One comparison, or a chain of them.

    Args:
        text: `model.embed_dim >= 16 * model.num_heads`; `+ - * / // %`, parentheses, `< <= > >= == !=`.

    Raises:
        ValueError: it is something else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST} characters")
        try:
            body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError) as error:
            raise ValueError(f"must be {_EXAMPLE}") from error
        if not isinstance(body, ast.Compare):
            raise ValueError(f"must be {_EXAMPLE}")
        self._body = body
        self.names = frozenset(_names(body))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is met. A field that a trial does not have, or that is no number, meets no order."""
        sides = [_value(side, values) for side in (self._body.left, *self._body.comparators)]
        try:
            return all(
                _COMPARISONS[type(compare)](left, right)
                for compare, left, right in zip(self._body.ops, sides, sides[1:], strict=False)
            )
        except TypeError:
            return False


def _names(node: ast.AST) -> list[str]:
    """Every name of the tree, after every part was looked at.

    Raises:
        ValueError: a part that has no business here.
    """
    if (name := _dotted(node)) is not None:
        return [name]
    if isinstance(node, ast.Compare):
        if not all(type(compare) in _COMPARISONS for compare in node.ops):
            raise ValueError(f"must be {_EXAMPLE}")
        return [name for side in (node.left, *node.comparators) for name in _names(side)]
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return [*_names(node.left), *_names(node.right)]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _names(node.operand)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return []
    raise ValueError(f"must be {_EXAMPLE}")


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:
    if (name := _dotted(node)) is not None:
        return values.get(name)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, values), _value(node.right, values)
        if not all(isinstance(side, int | float) for side in (left, right)):  # text times a number is a lot of text
            return None
        try:
            return _ARITHMETIC[type(node.op)](left, right)
        except ZeroDivisionError:
            return None
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, values)
        return -inner if isinstance(inner, int | float) else None
    assert isinstance(node, ast.Constant), ast.dump(node)
    return node.value
