"""Signatures read from source text, so that checking a config imports nothing heavy.

`inspect.signature(transformers.TrainingArguments)` costs three seconds of imports; parsing its file costs
a hundredth of that. Parsing also resolves a name in a config before any of its code runs.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A parsed source file."""

    name: str
    path: Path
    names: dict[str, ast.stmt]  # top-level name -> its statement, which may be inside `if` or `try`
    stars: tuple[str, ...]  # modules of `from x import *`

    @property
    def package(self) -> str:
        """The package from which relative imports of this module count."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Found:
    """The definition that a dotted path names after all re-exports are followed."""

    module: Module
    node: Definition
    owner: ast.ClassDef | None = None  # the class if `node` is a method

    @property
    def path(self) -> str:
        """The dotted path of the definition itself."""
        names = [self.module.name, *([self.owner.name] if self.owner else []), self.node.name]
        return ".".join(names)


@dataclass(frozen=True)
class Parameter:
    """An argument of a target; names in `annotation` are resolved in `module`."""

    name: str
    annotation: ast.expr | None
    module: Module
    required: bool


@dataclass(frozen=True)
class Signature:
    """The arguments of a target; `accepts_any` is true if it takes `**kwargs`."""

    path: str
    parameters: dict[str, Parameter]
    accepts_any: bool


def locate(path: str) -> Found | None:
    """Return the class, function, or method that a dotted path names; None if source text cannot tell."""
    return _locate(tuple(path.split(".")), depth=0)


@functools.cache
def signature(path: str) -> Signature | None:
    """Return the signature of a dotted path; None if source text cannot tell."""
    definition = locate(path)
    if definition is None:
        return None
    if not isinstance(definition.node, ast.ClassDef):
        return _function_signature(definition)
    if not _is_dataclass(definition.node):
        if init := _method(definition, "__init__") or _method(definition, "__new__"):
            return _with_base(init, _function_signature(init, path=definition.path))
        return Signature(definition.path, {}, accepts_any=False) if _is_known(definition) else None
    fields = _fields(definition)
    return Signature(definition.path, fields, accepts_any=False) if fields is not None else None


def module_names(name: str) -> list[str]:
    """Return the public names that a module's source text binds; empty if it cannot be read."""
    module = _module(name) if name else None
    return [bound for bound in module.names if not bound.startswith("_")] if module else []


_EMPTY_BASES = ("ABC", "object")  # bases that take no arguments and have no fields


# --- lookup ----------------------------------------------------------------------------------------------


@functools.cache
def _module(name: str) -> Module | None:
    path = _source(name)
    if path is None:
        return None
    names: dict[str, ast.stmt] = {}
    stars: list[str] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = Module(name, path, names, ())
    for stmt in _statements(tree.body):
        for bound in _bound_names(stmt):
            if not isinstance(names.get(bound), Definition):  # `AutoModel = decorate(AutoModel)` keeps the class
                names[bound] = stmt
        if isinstance(stmt, ast.ImportFrom) and stmt.names[0].name == "*":
            stars.append(_absolute(module, stmt))
    return Module(name, path, names, tuple(stars))


@functools.cache
def _source(name: str) -> Path | None:
    """Return the file of a module without importing the module or its parents."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        if rest and spec is not None and spec.origin is None:  # a namespace package, whose import runs no code
            spec, rest = importlib.util.find_spec(f"{top}.{rest[0]}"), rest[1:]
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    if not rest:
        return Path(spec.origin)
    base = Path(spec.origin).parent.joinpath(*rest)
    candidates = [base / "__init__.py", base.with_name(base.name + ".py")]
    return next((path for path in candidates if spec.submodule_search_locations and path.is_file()), None)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for stmt in body:
        yield stmt
        if isinstance(stmt, ast.If | ast.Try):
            handlers = [handler.body for handler in stmt.handlers] if isinstance(stmt, ast.Try) else []
            for inner in (stmt.body, stmt.orelse, *handlers):
                yield from _statements(inner)


def _bound_names(stmt: ast.stmt) -> list[str]:
    if isinstance(stmt, Definition):
        return [stmt.name]
    if isinstance(stmt, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in stmt.names if alias.name != "*"]
    if isinstance(stmt, ast.Assign):
        return [target.id for target in stmt.targets if isinstance(target, ast.Name)]
    return []


def _absolute(module: Module, stmt: ast.ImportFrom) -> str:
    if not stmt.level:
        return stmt.module or ""
    parents = module.package.split(".")
    base = parents[: len(parents) - stmt.level + 1]
    return ".".join([*base, *([stmt.module] if stmt.module else [])])


@functools.cache
def _locate(parts: tuple[str, ...], depth: int) -> Found | None:
    if depth > 8:  # circular re-exports
        return None
    size = next((n for n in range(len(parts) - 1, 0, -1) if _source(".".join(parts[:n]))), 0)
    module = _module(".".join(parts[:size])) if size else None
    if module is None:
        return None
    name, *rest = parts[size:]
    stmt = module.names.get(name)
    if stmt is None:
        stars = (star for star in module.stars if _may_bind(star, name))
        candidates = (_locate((*star.split("."), name, *rest), depth + 1) for star in stars)
        return next((definition for definition in candidates if definition), None)
    if isinstance(stmt, Definition):
        return _member(Found(module, stmt), rest)
    target = _alias_target(module, stmt, name)
    return _locate((*target.split("."), *rest), depth + 1) if target else None


def _may_bind(module: str, name: str) -> bool:
    """Return whether a module's text has the name or a star import; parsing transformers' 2,000 modules is slow."""
    text = path.read_text(encoding="utf-8") if (path := _source(module)) else ""
    return name in text or "import *" in text


def _alias_target(module: Module, stmt: ast.stmt, name: str) -> str | None:
    if isinstance(stmt, ast.ImportFrom | ast.Import):
        for alias in stmt.names:
            if name not in (alias.asname, alias.name, alias.name.partition(".")[0]):
                continue
            if isinstance(stmt, ast.ImportFrom):
                return f"{_absolute(module, stmt)}.{alias.name}"
            return alias.name if alias.asname else name
    if isinstance(stmt, ast.Assign) and isinstance(stmt.value, ast.Name) and stmt.value.id != name:
        return f"{module.name}.{stmt.value.id}"
    return None


def _member(definition: Found, rest: Sequence[str]) -> Found | None:
    if not rest:
        return definition
    if len(rest) == 1 and isinstance(definition.node, ast.ClassDef):
        return _method(definition, rest[0])
    return None


def bases(found: Found) -> list[Found | None]:
    """Return the bases of a class; None for each base that source text cannot tell."""
    assert isinstance(found.node, ast.ClassDef)  # callers look at classes only
    return [locate(f"{found.module.name}.{ast.unparse(base)}") for base in found.node.bases]


def _is_known(definition: Found) -> bool:
    """Return whether every base of a class can be read, so that a method that was not found does not exist."""
    assert isinstance(definition.node, ast.ClassDef)  # callers look at classes only
    pairs = zip(bases(definition), definition.node.bases, strict=True)
    return all(
        _is_known(base) if base and isinstance(base.node, ast.ClassDef) else ast.unparse(base_node) in _EMPTY_BASES
        for base, base_node in pairs
    )


def _method(definition: Found, name: str) -> Found | None:
    assert isinstance(definition.node, ast.ClassDef)  # callers look at classes only
    for stmt in definition.node.body:
        if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef) and stmt.name == name:
            return Found(definition.module, stmt, owner=definition.node)
    candidates = (_method(base, name) for base in bases(definition) if base and isinstance(base.node, ast.ClassDef))
    return next((method for method in candidates if method), None)


# --- signatures ------------------------------------------------------------------------------------------


def _decorators(node: Definition) -> set[str]:
    calls = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list)
    return {ast.unparse(call).rpartition(".")[2] for call in calls}


def _is_dataclass(node: ast.ClassDef) -> bool:
    return "dataclass" in _decorators(node)


def _function_signature(definition: Found, path: str | None = None) -> Signature:
    assert not isinstance(definition.node, ast.ClassDef)  # callers pass functions and methods
    args = definition.node.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + [*args.defaults]
    pairs = [*zip(positional, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if definition.owner and "staticmethod" not in _decorators(definition.node):
        pairs = pairs[1:]  # self or cls
    parameters = {a.arg: Parameter(a.arg, a.annotation, definition.module, d is None) for a, d in pairs}
    return Signature(path or definition.path, parameters, accepts_any=args.kwarg is not None)


def _with_base(init: Found, init_signature: Signature) -> Signature:
    """Add the arguments of the first base class if an `__init__` passes its `**kwargs` on to it."""
    if init.owner and any(ast.unparse(stmt) == "super().__init__(*args, **kwargs)" for stmt in init.node.body):
        first_base = next(iter(bases(Found(init.module, init.owner))), None)
        if base := first_base and signature(first_base.path):
            return Signature(init_signature.path, base.parameters | init_signature.parameters, base.accepts_any)
    return init_signature


def _fields(definition: Found) -> dict[str, Parameter] | None:
    """Return the fields of a dataclass, those of its bases first; None if a base cannot be read."""
    assert isinstance(definition.node, ast.ClassDef)  # callers look at classes only
    fields: dict[str, Parameter] = {}
    for base, base_node in zip(bases(definition), definition.node.bases, strict=True):
        if base is None:
            if ast.unparse(base_node) in _EMPTY_BASES:
                continue
            return None
        if isinstance(base.node, ast.ClassDef) and _is_dataclass(base.node):
            inherited = _fields(base)
            if inherited is None:
                return None
            fields |= inherited
    for stmt in definition.node.body:
        if isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name):
            name, kind = stmt.target.id, ast.unparse(stmt.annotation)
            if not kind.startswith(("ClassVar", "typing.ClassVar")) and not _keyword(stmt.value, "init", False):
                fields[name] = Parameter(name, stmt.annotation, definition.module, _is_required(stmt.value))
    return fields


def _keyword(value: ast.expr | None, name: str, constant: object) -> bool:
    """Return whether `value` is a call with `name=constant`."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return any(k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is constant for k in keywords)


def _is_required(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "field":
        return not any(keyword.arg in ("default", "default_factory") for keyword in value.keywords)
    return value is None
