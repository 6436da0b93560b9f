"""What a module does when it is imported, beside giving names to values.

Who knows the values of a module's names knows all of it, unless its top level does more:
``csv.field_size_limit(10**9)``, ``registry.append(f)``, ``lib.f = g``. Such statements are found
here in its source. A call counts as one, unless it is of something known to change nothing else.
"""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytxmr.job.shipping import top_of

_HARMLESS_BUILTINS = frozenset((
    "set", "frozenset", "dict", "list", "tuple", "str", "int", "float", "bool", "bytes",
    "bytearray", "complex", "range", "len", "object", "staticmethod", "classmethod", "property",
    "super", "type", "isinstance", "issubclass", "hasattr",
))  # fmt: skip
#: By module and name.
_HARMLESS = frozenset((
    "re.compile", "collections.namedtuple", "collections.Counter", "collections.defaultdict",
    "collections.OrderedDict", "collections.deque", "operator.itemgetter", "operator.attrgetter",
    "operator.methodcaller", "functools.partial", "functools.lru_cache", "functools.cache",
    "functools.wraps", "functools.cached_property", "dataclasses.dataclass", "dataclasses.field",
    "logging.getLogger", "typing.NamedTuple", "typing.TypeVar", "typing.NewType", "typing.cast",
    "typing.final", "struct.Struct", "string.Template", "enum.auto", "enum.unique",
    "datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta",
    "datetime.timezone", "decimal.Decimal", "fractions.Fraction", "pathlib.PurePath",
    "abc.abstractmethod", "contextlib.contextmanager", "itertools.count",
))  # fmt: skip
#: Their methods change nothing but themselves.
_VALUES = (str, bytes, int, float, tuple, list, dict, set, frozenset)


@dataclass
class Effects:
    """``done``: the statements, or expressions in them, as text that is the same wherever they
    stand; ``names``: those in them; ``imported``: first names of what is imported."""

    done: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)


def effects_of(source: bytes, known: Mapping[str, Any]) -> Effects:
    """What a module does; ``known`` is what its names stand for when it has done it. Raises
    `SyntaxError` or `ValueError` for what is no Python."""
    look = _Look(known)
    look.statements(ast.parse(source).body)
    return look.found


class _Look:
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.found = Effects()
        self._known = known

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Import():
                self.found.imported += [top_of(alias.name) for alias in node.names]
            case ast.ImportFrom():
                if not node.level:
                    self.found.imported.append(top_of(node.module or ""))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._decorators(node.decorator_list)
                self._expressions(_of_signature(node.args))
                self._expressions([node.returns] if node.returns else [])
            case ast.ClassDef():
                self._decorators(node.decorator_list)
                self._expressions([*node.bases, *(word.value for word in node.keywords)])
                if node.keywords or any(map(self._heeds_descent, node.bases)):
                    said = [*node.bases, *(word.value for word in node.keywords)]
                    self._note(ast.Tuple(said, ast.Load()))
                self.statements(node.body)
            case ast.Assign():
                self._targets(node, node.targets)
                self._expressions([node.value])
            case ast.AnnAssign() | ast.AugAssign():
                self._targets(node, [node.target])
                self._expressions([node.value] if node.value else [])
            case ast.Expr():
                self._expressions([node.value])
            case ast.If() if _is_main(node.test):
                self.statements(node.orelse)
            case ast.If() | ast.While():
                self._expressions([node.test])
                self.statements([*node.body, *node.orelse])
            case ast.For():
                self._targets(node, [node.target])
                self._expressions([node.iter])
                self.statements([*node.body, *node.orelse])
            case ast.Try() | ast.TryStar():
                handlers = [each for handler in node.handlers for each in handler.body]
                self.statements([*node.body, *handlers, *node.orelse, *node.finalbody])
            case ast.Pass() | ast.Break() | ast.Continue():
                pass
            case _:
                self._note(node)

    def _targets(self, node: ast.stmt, targets: list[ast.expr]) -> None:
        """What is given a value is a name, or else something else is changed."""
        left = list(targets)
        while left:
            match left.pop():
                case ast.Tuple(elts=elements) | ast.List(elts=elements):
                    left += elements
                case ast.Starred(value=value):
                    left.append(value)
                case ast.Name():
                    pass
                case _:
                    return self._note(node)

    def _decorators(self, decorators: list[ast.expr]) -> None:
        for decorator in decorators:
            # What a harmless one gives, is so as well.
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not self._is_harmless(called):
                self._note(decorator)
        self._expressions(decorators)

    def _heeds_descent(self, base: ast.expr) -> bool:
        """Does a class do something when a descendant is made?"""
        found = self._known.get(base.id) if isinstance(base, ast.Name) else None
        if not isinstance(found, type):
            return False
        heeding = ("__init_subclass__" in vars(cls) for cls in found.__mro__ if cls is not object)
        return type(found) is not type or any(heeding)

    def _expressions(self, expressions: Iterable[ast.expr]) -> None:
        for expression in expressions:
            for node in _run_at_once(expression):
                if isinstance(node, ast.Call) and not self._is_harmless(node.func):
                    self._note(expression)
                    break

    def _note(self, node: ast.AST) -> None:
        self.found.done.append(ast.dump(node))
        names = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
        self.found.names += dict.fromkeys(names)

    def _is_harmless(self, called: ast.expr) -> bool:
        """Does a call of it change nothing but what it is called on?"""
        path: list[str] = []
        chained = False
        while not isinstance(called, ast.Name):
            match called:
                case ast.Attribute(value=value, attr=name):
                    path.insert(0, name)
                    called = value
                case ast.Call(func=value) | ast.Subscript(value=value):
                    path.clear()
                    called, chained = value, True
                case ast.Constant():
                    return True
                case _:
                    return False
        if called.id not in self._known:
            return called.id in _HARMLESS_BUILTINS and hasattr(builtins, called.id)
        found = self._known[called.id]
        while path and isinstance(found, types.ModuleType):
            if top_of(found.__name__) == "pytxmr":
                return True
            found = vars(found).get(path.pop(0))
        if type(found) in _VALUES or _is_ours(found):
            return True
        name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
        # What is done with what it gives, may be anything, unless it is one of these.
        return name in _HARMLESS and not chained


def _is_ours(found: Any) -> bool:
    """Is it a view, a reader, or anything else that is pytxmr's?"""
    named = found if isinstance(found, type | types.FunctionType) else type(found)
    return top_of(str(named.__module__)) == "pytxmr"


def _of_signature(arguments: ast.arguments) -> Iterator[ast.expr]:
    yield from arguments.defaults
    yield from (default for default in arguments.kw_defaults if default is not None)
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    yield from (one.annotation for one in every if one.annotation is not None)


def _run_at_once(expression: ast.expr) -> Iterator[ast.AST]:
    """The nodes that run when the expression does: not those within a lambda."""
    left: list[ast.AST] = [expression]
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, ast.Lambda):
            left += ast.iter_child_nodes(node)


def _is_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(
            left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant("__main__")]
        ):
            return True
    return False
