"""Of some of a job's functions: a digest of all code and values that they can reach.

Two digests are equal only if the functions do the same, whatever else in their files has changed.
Only what a function can come to by name counts: its own code, without line numbers, and that of the
functions, classes, modules and values of the job that the names in it lead to, and so on. What is
installed is known by name and version. What runs as a module of the job is imported counts too, as
far as it may do more than give names to values (see `toplevel`).

There are ways to come to something that no name shows, such as `eval` and `pickle`. For code that
has any of those, or a value that cannot be taken apart, there is no digest (`Hidden`): all of the
job's source has to stand for it, which is as right, and less fine. So what is not thought of here
need only end there.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pytxmr.job import bytecode, operations
from pytxmr.job.installed import installed_version
from pytxmr.job.mapreduce import MapReduce
from pytxmr.job.shipping import top_of

#: Names by which code comes to what it does not name, as globals or as attributes. `getattr` is
#: none of them: all of what it is given is reached.
_HIDING = frozenset((
    "eval", "exec", "globals", "__import__", "__loader__", "__spec__", "__builtins__",
    "__globals__", "__self__", "__func__", "__closure__", "__code__", "__annotations__",
    "__subclasses__", "_getframe", "f_globals", "f_locals", "modules", "import_module",
    "get_type_hints",
))  # fmt: skip
#: Modules that find things by names in data, or look into what is running.
_HIDING_MODULES = frozenset((
    "builtins", "ctypes", "gc", "importlib", "inspect", "joblib", "marshal", "pickle", "pkgutil",
    "runpy", "shelve", "cloudpickle", "dill",
))  # fmt: skip
#: Of a class or module, what says nothing of what it does.
_ASIDE = frozenset((
    "__dict__", "__weakref__", "__module__", "__annotations__", "__builtins__", "__loader__",
    "__spec__", "__cached__", "__file__", "__firstlineno__", "__static_attributes__",
    "__annotate_func__", "__annotations_cache__",
))  # fmt: skip
#: Of a shuffle, the fields that its ``emit`` reads; of others, all are taken to be read.
EMIT_READS: dict[type[operations.Shuffle], tuple[str, ...]] = {
    operations.Count: (),
    operations.Distinct: (),
    operations.Top: ("key",),
    operations.ReduceByKey: (),
    operations.Group: ("sort_by",),
    operations.Join: (),
    operations.CoGroup: (),
}
_NAMED = (types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)
_DESCRIPTORS = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
)
#: What those are that the job's classes are made of, whatever these make of it.
_CONTENT: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: set(frozenset.__iter__(value)),
    str: str.__str__,
    bytes: lambda value: bytes(bytes.__iter__(value)),
    int: int.__pos__,
    float: float.__pos__,
}
#: The flag of types that were made while the program runs (Py_TPFLAGS_HEAPTYPE).
_IS_MADE = 1 << 9


class Hidden(Exception):
    """It cannot be told what the code can reach."""


class Reach:
    """Takes what is reached, in an order that is the same in every process.

    ``modules``: the names of the job's own modules. ``instance``: the instance of the job's class;
    of its attributes only those count that are named somewhere.
    """

    def __init__(self, modules: Iterable[str], instance: Any = None) -> None:
        self._hash = hashlib.blake2b(digest_size=24)
        self._modules = frozenset(modules)
        self._instance = instance
        self._numbers: dict[int, int] = {}
        #: So that no id is used twice.
        self._held: list[Any] = []
        self._within: list[int] = []
        self._named: dict[str, None] = {}

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def put(self, *words: str | bytes) -> None:
        """Note this, and nothing that it leads to."""
        for word in words:
            data = word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word
            self._hash.update(struct.pack("<Q", len(data)))
            self._hash.update(data)

    def add(self, value: Any) -> None:
        """Note a value, whatever it is, and all that it leads to. Raises `Hidden`, and `BadJob` for
        code of which nobody can tell whether it has changed."""
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            self.put(kind.__name__, plain(value))
        elif isinstance(value, types.FunctionType | type | types.ModuleType):
            self._once(value, self._code_of)
        elif kind in (tuple, list, dict, set, frozenset, types.MappingProxyType, types.CellType):
            self._guarded(value, self._content)
        elif isinstance(value, types.MethodType):
            self._method(value)
        elif self._is_counted(kind):
            self._once(value, self._taken_apart)
        else:
            self._guarded(value, self._taken_apart)

    # ---- each thing once, and none within itself

    def _once(self, value: Any, note: Any) -> None:
        number = self._numbers.get(id(value))
        if number is not None:
            return self.put("again", str(number))
        self._numbers[id(value)] = len(self._numbers)
        self._held.append(value)
        note(value)

    def _guarded(self, value: Any, note: Any) -> None:
        """Not `_once`: whether two values that are equal are one may differ between processes."""
        if id(value) in self._within:
            return self.put("within", str(self._within.index(id(value))))
        self._within.append(id(value))
        note(value)
        self._within.pop()

    def _is_counted(self, kind: type) -> bool:
        module = str(kind.__module__)
        return self._is_own(module) or top_of(module) == "pytxmr"

    def _is_own(self, module: str) -> bool:
        return module in self._modules

    def _elsewhere(self, module: str) -> None:
        """Note the version of what a module belongs to that is none of the job's."""
        top = top_of(module)
        if top != "builtins" and top.lstrip("_") in _HIDING_MODULES:
            raise Hidden(f"{module} is used")
        self.put("module", module, installed_version(top))

    # ---- values

    def _content(self, value: Any) -> None:
        kind = type(value)
        self.put(kind.__name__)
        if kind is types.CellType:
            try:
                self.add(value.cell_contents)
            except ValueError:
                self.put("empty")
            return
        self.put(str(len(value)))
        if kind in (set, frozenset):
            value = sorted(value, key=_in_order)
        for item in value:
            self.add(item)
            if kind in (dict, types.MappingProxyType):
                self.add(value[item])

    def _taken_apart(self, value: Any) -> None:
        kind = type(value)
        if kind in (staticmethod, classmethod):
            self.put(kind.__name__)
            return self.add(value.__func__)
        if kind is property:
            self.put("property")
            return self._all((value.fget, value.fset, value.fdel))
        if kind is functools.cached_property:
            self.put("cached_property")
            return self.add(value.func)
        if isinstance(value, functools._lru_cache_wrapper):
            self.put("lru_cache")
            return self._all((value.__wrapped__, value.cache_parameters()))
        if isinstance(value, _NAMED + _DESCRIPTORS):
            return self._builtin(value)
        if self._is_own(str(kind.__module__)):
            return self._own_instance(value)
        # What pickle would write down of it, which for what is installed is all that it is.
        try:
            reduce = copyreg.dispatch_table.get(kind)
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise Hidden(f"a {kind.__qualname__} cannot be taken apart: {error}") from error
        self.put("reduced", kind.__qualname__)
        self._elsewhere(str(kind.__module__))
        if isinstance(reduced, str):
            return self.put(reduced)
        item: Any
        for item in reduced:
            listed = isinstance(item, Iterator)
            self.put("items" if listed else "item")
            self._all(item) if listed else self.add(item)

    def _all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.add(value)

    def _builtin(self, value: Any) -> None:
        owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
        self.put("builtin", value.__name__)
        if isinstance(owner, type):
            self.put(owner.__qualname__)
            self._elsewhere_but_own(owner.__module__)
        elif owner is None or isinstance(owner, types.ModuleType):
            if value.__name__ in _HIDING:
                raise Hidden(f"{value.__name__} is used")
            self._elsewhere(str(value.__module__ or "builtins"))
        else:
            self.add(owner)

    def _elsewhere_but_own(self, module: str) -> None:
        if not self._is_own(module):
            self._elsewhere(module)

    def _own_instance(self, value: Any) -> None:
        kind = type(value)
        self.put("instance")
        self.add(kind)
        for base, content in _CONTENT.items():
            if isinstance(value, base):
                self.add(content(value))
        self.add(dict(getattr(value, "__dict__", {})))
        for cls in kind.__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if slot not in ("__dict__", "__weakref__"):
                    name = f"_{cls.__name__.lstrip('_')}{slot}" if slot[:2] == "__" else slot
                    self._all((slot, getattr(value, name, None)))

    # ---- functions, classes, modules

    def _code_of(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        else:
            self._class(value)

    def _function(self, function: types.FunctionType) -> None:
        module = str(function.__globals__.get("__name__", ""))
        # One that was made by `exec`, as by namedtuple, has names of its own.
        own = self._is_own(module) or function.__globals__ is not _globals_of(module)
        self.put("function")
        self._code(function.__code__)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        if own:
            self._names(function.__code__, function.__globals__)
        else:
            self.put(function.__qualname__)
            self._elsewhere(module)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            # `super()` looks into the class of the instance, where names are looked for anyway.
            if name != "__class__" or not self._is_selective(cell):
                self.add(cell)
        self.add(dict(vars(function)))

    def _is_selective(self, cell: types.CellType) -> bool:
        return self._instance is not None and cell.cell_contents in type(self._instance).__mro__

    def _code(self, code: types.CodeType) -> None:
        self.put("code", code.co_code, code.co_exceptiontable, str(code.co_flags))
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self.put(*map(str, counts), code.co_name)
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self.put(str(len(names)), *names)
        self.put(str(len(code.co_consts)))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            else:
                self.add(constant)

    def _names(self, code: types.CodeType, known: Mapping[str, Any]) -> None:
        """Note what the names in a function of the job lead to."""
        for path in bytecode.paths(code):
            if path[0] == "import":
                self._imported(path[1])
                continue
            self.put("name", *path)
            if _HIDING.intersection(path):
                raise Hidden(f"{'.'.join(path)} is used")
            name, *more = path
            if name not in known:
                continue  # it is built in, or there is none
            found = known[name]
            while more and isinstance(found, types.ModuleType) and self._is_own(found.__name__):
                attributes = vars(found)
                if more[0] not in attributes:
                    raise Hidden(f"{found.__name__} has no {more[0]} yet")
                found = attributes[more.pop(0)]
            self.add(found)
        for name in _HIDING.intersection(bytecode.attributes(code)):
            raise Hidden(f"{name} is used")

    def _imported(self, name: str) -> None:
        """Of what a function imports when it is called, nothing is there yet."""
        if name.startswith(".") or any(top_of(own) == top_of(name) for own in self._modules):
            raise Hidden(f"{name} is imported within a function")
        if top_of(name) in _HIDING_MODULES:
            raise Hidden(f"{name} is used")
        self._elsewhere(name)

    def _module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if top_of(name) in _HIDING_MODULES:
            raise Hidden(f"{name} is used")
        if not self._is_own(name):
            return self._elsewhere(name)
        self.put("own module")
        for attribute, value in sorted(vars(module).items()):
            if attribute not in _ASIDE:
                self._all((attribute, value))

    def _class(self, cls: type) -> None:
        self.put("class", cls.__qualname__)
        if not self._is_own(str(cls.__module__)) and _is_where_it_says(cls):
            return self._elsewhere(str(cls.__module__))
        self.add(cls.__bases__)
        if type(cls) is not type:
            self.add(type(cls))
        for name, value in vars(cls).items():
            if name not in _ASIDE and not name.startswith("_abc_"):
                self._all((name, value))

    # ---- methods of the job's instance, and of shuffles

    def _method(self, method: types.MethodType) -> None:
        owner, function = method.__self__, method.__func__
        self.put("method")
        reads = EMIT_READS.get(type(owner))  # type: ignore[arg-type]
        if owner is self._instance and self._instance is not None:
            self._of_instance(function)
        elif reads is not None and function.__name__ == "emit":
            self.put(type(owner).__qualname__)
            self._all((function, *(vars(owner)[name] for name in reads)))
        else:
            self._all((owner, function))

    def _of_instance(self, function: Any) -> None:
        """Note a method, and what of the instance it names, and that in turn."""
        cls = type(self._instance)
        has_slots = any("__slots__" in vars(base) for base in cls.__mro__)
        if has_slots or any(self._outside(base) for base in cls.__mro__):
            # The methods of others may call any of the job's by its name.
            self.add(function)
            return self._once(self._instance, self._own_instance)
        left = [function, *self._attributes(_special(cls))]
        while left:
            value = left.pop(0)
            parts = _functions_in(value)
            if parts is None:
                parts = []
                self._all((cls, vars(self._instance)))
            for part in parts:
                names = [*bytecode.attributes(part.__code__), *bytecode.texts(part.__code__)]
                left += self._attributes(name for name in names if name not in self._named)
                self._named |= dict.fromkeys(names)
                if bytecode.escapes(part.__code__):
                    self._all((cls, vars(self._instance)))
            self.add(value)

    def _outside(self, base: type) -> bool:
        return base not in (object, MapReduce) and not self._is_own(str(base.__module__))

    def _attributes(self, names: Iterable[str]) -> list[Any]:
        """What the instance, its class and those above have by these names."""
        found = []
        for name in dict.fromkeys(names):
            places = [vars(self._instance)]
            places += [vars(cls) for cls in type(self._instance).__mro__ if not self._ours(cls)]
            found += [place[name] for place in places if name in place and name not in _ASIDE]
        return found

    @staticmethod
    def _ours(cls: type) -> bool:
        return cls in (object, MapReduce)


_PLAIN: dict[type, Any] = {
    type(None): repr,
    bool: repr,
    type(...): repr,
    type(NotImplemented): repr,
    int: hex,
    float: lambda value: struct.pack("<d", value),
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
    str: str,
    bytes: bytes,
    bytearray: bytes,
    range: repr,
    slice: repr,
}


def _in_order(value: Any) -> Any:
    """What sorts the elements of a set alike in every process."""
    kind = type(value)
    if kind in (tuple, frozenset):
        inner = map(_in_order, value)
        return (kind.__name__, tuple(inner if kind is tuple else sorted(inner)))
    if kind in _PLAIN:
        return (kind.__name__, repr(value))
    if isinstance(value, type | types.FunctionType):
        return ("code", f"{value.__module__}.{value.__qualname__}")
    raise Hidden(f"a set has a {kind.__qualname__} in it")


def _functions_in(value: Any) -> list[types.FunctionType] | None:
    """The functions that get the instance when an attribute of it is used. None for what may give
    it to others, such as a method with a cache."""
    parts = [value]
    if isinstance(value, types.MethodType | classmethod):
        parts = [value.__func__]
    elif isinstance(value, functools.cached_property):
        parts = [value.func]
    elif isinstance(value, property):
        parts = [part for part in (value.fget, value.fset, value.fdel) if part is not None]
    elif isinstance(value, staticmethod) or not hasattr(type(value), "__get__"):
        return []
    return parts if all(isinstance(part, types.FunctionType) for part in parts) else None


def _special(cls: type) -> list[str]:
    """What Python looks for by itself."""
    return [
        name
        for base in cls.__mro__
        for name in vars(base)
        if bytecode.SPECIAL.fullmatch(name) and name not in _ASIDE and name != "__doc__"
    ]


def _is_where_it_says(cls: type) -> bool:
    """Is it the class that its module has by its name, and not one that was made as the job wants
    it, as by `dataclasses.make_dataclass`?"""
    if not cls.__flags__ & _IS_MADE:
        return True
    found: Any = sys.modules.get(str(cls.__module__))
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _globals_of(module: str) -> Any:
    return getattr(sys.modules.get(module), "__dict__", None)
