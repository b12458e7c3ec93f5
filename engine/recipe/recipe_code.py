"""Recipe code: the file of a recipe and the modules beside it that it imports.

The files are found by reading the import statements, before anything runs. They run as modules of a
package of their own, named by their content: modules of the same name in two recipes, or in an
installed package, do not meet. What runs is the bytes that were hashed, whatever happens to the
files meanwhile.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.util
import linecache
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import Any

from engine import runtime
from engine.errors import BadUsage

RECIPE = "recipe.py"  # the name of a recipe's own file, whatever it is called on disk
GROUP = "respr_engine.parts"  # entry points by which installed packages register their parts
MOST_BYTES = 2**20  # of one file
MOST_FILES = 64
_PACKAGE = "recipe_code_"
_OWN = ("engine", "volumes", "recipes")
# Names that no module beside a recipe may have.
INSTALLED = frozenset({*sys.stdlib_module_names, *_OWN, "tensorflow", "keras", "numpy", "scipy"})
_ROOT = Path(__file__).resolve().parents[2]

_DAMAGED = (SyntaxError, ValueError, RecursionError, MemoryError)  # what parsing a file may raise


@dataclass(frozen=True)
class RecipeCode:
    """The bytes of a recipe's files.

    Attributes:
        path: of the recipe's own file.
        files: content by path relative to the recipe's folder, such as `gates.py`. The recipe's own
            file is `recipe.py`.
    """

    path: Path
    files: Mapping[str, bytes]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {name: hashlib.sha256(self.files[name]).hexdigest() for name in sorted(self.files)}

    @property
    def sha256(self) -> str:
        """SHA-256 of all files and their names."""
        return sha256_of(self.hashes)

    def place(self, name: str) -> Path:
        """Where a file lies."""
        return self.path if name == RECIPE else self.path.parent / name

    def definitions(self) -> dict[str, str]:
        """What each file defines, as text that comments, layout and the recipe do not change."""
        return {name: _definitions(content, name) for name, content in self.files.items()}


def sha256_of(hashes: Mapping[str, str]) -> str:
    """SHA-256 of all files of a recipe, from the hashes of each."""
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


# -- Reading ---------------------------------------------------------------------------------------


def read_code(path: Path) -> RecipeCode:
    """The code of a recipe file: the file, and the modules beside it that it imports. Nothing runs.

    Raises:
        BadUsage: if a file cannot be read or is not Python, or a module beside the recipe hides one
            of Python or of the engine.
    """
    files = {RECIPE: _content(path)}
    waiting = [RECIPE]
    while waiting:
        name = waiting.pop()
        place = path if name == RECIPE else path.parent / name
        try:
            imported = list(_imported(ast.parse(files[name]), name))
        except _DAMAGED as error:
            raise _failed(place, error) from error
        for module in imported:
            for beside in _beside(path, module):
                if beside not in files:
                    files[beside] = _content(path.parent / beside)
                    waiting.append(beside)
        if len(files) > MOST_FILES:
            cause = f"imports more than {MOST_FILES} modules beside it"
            raise BadUsage(path, cause, "Make a package of them, and install it")
    return RecipeCode(path, files)


def _content(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadUsage(path, f"cannot be read: {error.strerror}", "Name a recipe file") from error
    if len(content) > MOST_BYTES:
        cause = f"has more than {MOST_BYTES:,} bytes, which is no recipe"
        raise BadUsage(path, cause, "Name a recipe file")
    return content


def _imported(tree: ast.Module, file: str) -> Iterator[str]:
    """The dotted names that a file imports, relative ones resolved. Some are no modules."""
    package = PurePosixPath(file).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)


def _beside(recipe: Path, module: str) -> Iterator[str]:
    """The files of a module beside a recipe and of the packages that it is in; none if elsewhere.

    Raises:
        BadUsage: if a file hides a module of Python or of the engine, or is the recipe itself.
    """
    place = PurePosixPath()
    for i, noun in enumerate(module.split(".")):
        found = [place / noun / "__init__.py", place / f"{noun}.py"]
        file = next((str(f) for f in found if noun and (recipe.parent / f).is_file()), None)
        if file is None:
            return
        whole = recipe.parent / file
        if i == 0 and noun in {e.module.partition(".")[0] for e in entry_points(group=GROUP)}:
            return  # found as installed, although its folder is here
        if i == 0 and noun in INSTALLED:
            if noun in _OWN and whole.resolve().is_relative_to(_ROOT / noun):
                return
            cause = f"has the name of an installed module, {noun}, which {recipe.name} imports"
            raise BadUsage(whole, cause, "Rename it")
        if file == RECIPE or whole.samefile(recipe):
            cause = "is imported by a module beside it" if whole.samefile(recipe) else (
                f"has the name by which a run keeps {recipe.name}"
            )  # fmt: skip
            raise BadUsage(whole, cause, "Move what is imported into a module of another name")
        yield file
        place /= noun


def _definitions(content: bytes, name: str) -> str:
    try:
        tree = ast.parse(content)
    except _DAMAGED:
        return content.decode(errors="replace")
    if name == RECIPE:
        tree.body = [node for node in tree.body if not _assigns_recipe(node)]
    return ast.dump(tree)


def _assigns_recipe(node: ast.stmt) -> bool:
    """Whether a statement is `recipe = Recipe(...)`: its fields are compared as such."""
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "recipe" for target in node.targets
    )


def _failed(path: Path, error: BaseException) -> BadUsage:
    return BadUsage(path, f"fails with {type(error).__name__}: {error}", "Correct the file")


# -- Running ---------------------------------------------------------------------------------------

_packages: dict[str, RecipeCode] = {}  # code that runs or has run in this process


def run_code(code: RecipeCode) -> types.ModuleType:
    """Runs a recipe's file as a module, once a process, and returns it.

    Raises:
        BadUsage: if it fails.
    """
    place = str(code.path.resolve())
    package = _PACKAGE + hashlib.sha256(f"{code.sha256} {place}".encode()).hexdigest()[:16]
    name = f"{package}.{_module_name(RECIPE)}"
    if name in sys.modules:
        return sys.modules[name]
    runtime.set_environment()  # the file may import TensorFlow
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    parent = types.ModuleType(package)
    parent.__path__ = []
    sys.modules[package] = parent
    _packages[package] = code
    try:
        return importlib.import_module(name)
    except Exception as error:  # the file may raise anything
        del _packages[package]
        for known in [known for known in sys.modules if f"{known}.".startswith(f"{package}.")]:
            del sys.modules[known]
        raise _failed(code.path, error) from error


def has_run(hashes: Mapping[str, str]) -> RecipeCode | None:
    """The code with these hashes, if it has run in this process."""
    return next((code for code in _packages.values() if code.hashes == hashes), None)


def at(path: Path) -> RecipeCode | None:
    """The code of a recipe file that ran last in this process; None if none did."""
    place = path.resolve()
    return next((c for c in reversed(_packages.values()) if c.path.resolve() == place), None)


def defined_by(value: Any) -> tuple[RecipeCode, str] | None:
    """The code that defines a class or a function, and its kind, such as `gates.py:Gate`.

    None if no recipe's file defines it at its top level.
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    package, _, rest = str(module).partition(".")
    code = _packages.get(package)
    if code is None or getattr(sys.modules.get(str(module)), name, None) is not value:
        return None
    file = next(file for file in code.files if _module_name(file) == rest)
    return code, f"{file}:{name}"


def definition(code: RecipeCode, kind: str) -> Any:
    """The class or function of a kind, such as `gates.py:Gate`.

    Raises:
        KeyError: if the code does not define it.
    """
    file, _, name = kind.partition(":")
    package = next(package for package, known in _packages.items() if known is code)
    module = sys.modules.get(f"{package}.{_module_name(file)}") if file in code.files else None
    found = vars(module).get(name) if module else None
    if found is None or defined_by(found) != (code, kind):
        raise KeyError(f"{code.path} defines no {kind}")
    return found


def file_of(module: str) -> Path | None:
    """The file of a module of a recipe; None for other modules."""
    package, _, rest = module.partition(".")
    code = _packages.get(package)
    return (
        next((code.place(f) for f in code.files if _module_name(f) == rest), None) if code else None
    )


def raised_in(error: BaseException) -> str | None:
    """The file of a recipe that an error comes from, and the line if known; else None."""
    found, trace = None, error.__traceback__
    while trace is not None:
        names, line = trace.tb_frame.f_globals, trace.tb_lineno
        if str(names.get("__name__")).partition(".")[0] in _packages:
            file = str(names.get("__file__"))
            # TensorFlow makes graphs from rewritten functions, whose lines are others.
            same = trace.tb_frame.f_code.co_filename == file
            found = f"{file}, line {line}" if same else file
        trace = trace.tb_next
    return found


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class _Finder(MetaPathFinder):
    """Finds the modules of recipes within the packages that `run_code` made."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of a recipe; None for any other."""
        package, _, rest = fullname.partition(".")
        code = _packages.get(package)
        file = next((f for f in code.files if _module_name(f) == rest), None) if code else None
        if code is None or file is None:
            return None
        loader = _Loader(code, file, package)
        return importlib.util.spec_from_loader(fullname, loader, is_package=loader.is_package())


class _Loader(ExecutionLoader):
    """Runs one file of a recipe from the bytes that were read."""

    def __init__(self, code: RecipeCode, file: str, package: str) -> None:
        self._content, self._path = code.files[file], str(code.place(file))
        self._file, self._package = file, package
        self._beside = {PurePosixPath(name).parts[0].removesuffix(".py") for name in code.files}

    def get_filename(self, fullname: str) -> str:
        """The path of the file, for tracebacks."""
        return self._path

    def get_source(self, fullname: str) -> str:
        """The text of the file."""
        return importlib.util.decode_source(self._content)

    def is_package(self, fullname: str = "") -> bool:
        """Whether the file is that of a package."""
        return PurePosixPath(self._file).name == "__init__.py"

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs the file. Its `import gates` finds the module beside it, at any time."""
        text = self.get_source(module.__name__)
        # TensorFlow reads the text of functions to make graphs: it must be the text that runs.
        linecache.cache[self._path] = (len(text), None, text.splitlines(True), self._path)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        super().exec_module(module)

    def _import(
        self, name: str, space: Mapping[str, Any] | None = None,
        local: Mapping[str, Any] | None = None, names: Sequence[str] = (), level: int = 0,
    ) -> types.ModuleType:  # fmt: skip
        first = name.partition(".")[0]
        if first in ("tensorflow", "keras"):
            runtime.tensorflow()  # without its messages
        if level or first not in self._beside - {_module_name(RECIPE)}:
            return builtins.__import__(name, space, local, names, level)
        found = builtins.__import__(f"{self._package}.{name}", space, local, names, 0)
        return found if names else sys.modules[f"{self._package}.{first}"]
