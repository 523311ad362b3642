"""Rules of the house that a program can check, each as a list of the places that break it.

Every function takes the checkout's root and gives lines ``path:line: what``; an empty list is a
house in order. ``python -m tests.house_rules [PREFIX]`` prints what is left below a folder.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
TOP = ("benchmarks", "modelmill", "flows", "serving", "components", "models")
MOST_FLAT = 15
"""Files that may lie in one folder: more, and nobody reads the listing."""
MOST_ONE_WORD = 0.25
"""Share of one-word names among functions that other files use."""
ROLES = {"__init__", "__main__", "score", "rule"}
"""File names that stand for a role and may come again: a scorer is a folder of these."""
QUESTION = re.compile(r"(What|Whether|How|Where|Which|Who|Whose|When|That)\b")
EMPTY_NAMES = {"found", "one", "given", "kept", "told", "said"}
"""Names that tell what happened to a value and not what it is."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(root: Path = ROOT) -> Iterator[tuple[Path, ast.Module]]:
    """(path relative to the root, tree) of every module of the product."""
    for top in TOP:
        for path in sorted((root / top).rglob("*.py")):
            yield path.relative_to(root), ast.parse(path.read_text(encoding="utf-8"))


def _documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring, of attributes too."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text and isinstance(statement.value.value, str):
                first = before is None and isinstance(
                    node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
                )
                if first or isinstance(before, ast.Assign | ast.AnnAssign):
                    yield statement.lineno, statement.value.value


def questions(root: Path = ROOT) -> list[str]:
    """Docstrings that begin as a question instead of naming their concept."""
    return [
        f"{path}:{line}: {text.strip().splitlines()[0][:80]}"
        for path, tree in sources(root)
        for line, text in _documented(tree)
        if QUESTION.match(text.strip())
    ]


def folders_without_package(root: Path = ROOT) -> list[str]:
    """List folders of modules that lack an ``__init__.py``: import contracts pass over them."""
    folders = {path.parent for top in TOP for path in (root / top).rglob("*.py")}
    return sorted(
        f"{folder.relative_to(root)}: no __init__.py"
        for folder in folders
        if not (folder / "__init__.py").is_file()
    )


def undocumented_modules(root: Path = ROOT) -> list[str]:
    """Modules without a docstring, packages too: a folder says what lies in it."""
    return [
        f"{path}:1: no docstring" for path, tree in sources(root) if not ast.get_docstring(tree)
    ]


def repeated_names(root: Path = ROOT) -> list[str]:
    """Files, and public classes, that share their name."""
    files: dict[str, list[str]] = defaultdict(list)
    classes: dict[str, list[str]] = defaultdict(list)
    for path, tree in sources(root):
        if path.stem not in ROLES:
            files[path.stem].append(f"{path}:1")
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(f"{path}:{node.lineno}")
    return [
        f"{place}: {name} stands {len(places)} times"
        for names in (files, classes)
        for name, places in sorted(names.items())
        if len(places) > 1
        for place in places
    ]


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Functions of a module and methods of its public classes, properties and dunders left out."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield inner


def parameters(function: Function) -> list[str]:
    """Names of its parameters, ``self`` and ``cls`` left out."""
    given = function.args
    rest = [extra for extra in (given.vararg, given.kwarg) if extra]
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *rest]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def _is_typed_command(function: Function) -> bool:
    """A command of the command line: each parameter carries its own help."""
    return any(
        "command" in ast.unparse(d) or "callback" in ast.unparse(d) for d in function.decorator_list
    )


def _is_override(function: Function) -> bool:
    return any(ast.unparse(d) in ("override", "overload") for d in function.decorator_list)


def missing_args(root: Path = ROOT) -> list[str]:
    """Public functions of more than two parameters whose docstring has no ``Args:``."""
    return [
        f"{path}:{function.lineno}: {function.name}({', '.join(parameters(function))})"
        for path, tree in sources(root)
        for function in public_functions(tree)
        if len(parameters(function)) > 2
        and not _is_typed_command(function)
        and not _is_override(function)
        and "Args:" not in (ast.get_docstring(function) or "")
    ]


PRODUCT = ("flows", "serving", "components", "models")
IO_ROOM = "components/core/io/"
PROCESS_STARTERS = {
    "components/core/process/child_programs.py": "the one way",
    "components/collect/docsite/page_renderer.py": "a dialogue over pipes, in a bare environment",
    "serving/gateway/foreground.py": "its errors are read as they come, its output is the user's",
    "components/core/store/executor.py": "a pool of Python functions",
    "components/train/distributed/launch_ranks.py": "ranks with a pipe each",
}
"""Files that start processes -> what ``child_programs`` does not give them."""
_STARTS = re.compile(
    r"(subprocess\.(run|Popen|call|check_call|check_output|getoutput|getstatusoutput)"
    r"|(asyncio\.)?create_subprocess_(exec|shell)"
    r"|os\.(system|popen|fork|forkpty|posix_spawnp?|spawn[lv]p?e?)"
    r"|multiprocessing\.(get_context|Process|Pool)|ProcessPoolExecutor)"
)
_DELETES, _RENAMES = {"shutil.rmtree"}, {"os.rename", "os.replace", "os.renames", "shutil.move"}


def _renames_path(call: ast.Call) -> bool:
    """True for ``path.rename(x)`` and ``path.replace(x)``: a text's ``replace`` takes two values,
    a moment's and a dataclass's take names."""
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in ("rename", "replace")
        and len(call.args) == 1
        and not call.keywords
    )


def second_ways(root: Path = ROOT) -> list[str]:
    """Jobs that one room does, done elsewhere: renames, deletions of folders, child processes."""
    lines = []
    for path, tree in sources(root):
        if path.parts[0] not in PRODUCT or path.as_posix().startswith(IO_ROOM):
            continue
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if name in _RENAMES or _renames_path(call):
                lines.append(f"{path}:{call.lineno}: {name}: use publish_path or atomic_path")
            if name in _DELETES:
                lines.append(f"{path}:{call.lineno}: {name}: use delete_path")
            if _STARTS.fullmatch(name) and path.as_posix() not in PROCESS_STARTERS:
                lines.append(f"{path}:{call.lineno}: {name}: use run_program or start_program")
    return lines


def count_lines(root: Path = ROOT) -> dict[str, int]:
    """Lines of Python by room, a room being a folder of the second level; ``make lines``."""
    counts: Counter[str] = Counter()
    for top in (*PRODUCT, "benchmarks"):
        for path in (root / top).rglob("*.py"):
            parts = path.relative_to(root).parts
            room = "/".join(parts[:2]) if len(parts) > 2 else f"{top}/*.py"
            counts[room] += len(path.read_text(encoding="utf-8").splitlines())
    return dict(sorted(counts.items()))


def empty_names(root: Path = ROOT) -> list[str]:
    """Module-level names, public fields and parameters of public functions that say nothing."""
    lines = []
    for path, tree in sources(root):
        bodies = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef))]
        for statement in (statement for body in bodies for statement in body):
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
            names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            lines += [f"{path}:{statement.lineno}: {name}" for name in names & EMPTY_NAMES]
        for function in public_functions(tree):
            for name in set(parameters(function)) & EMPTY_NAMES:
                lines.append(f"{path}:{function.lineno}: {function.name}({name})")
    return lines


def shared_functions(root: Path = ROOT) -> dict[str, str]:
    """``module.function`` -> its place, of module-level functions that another file uses."""
    defined: dict[str, str] = {}
    used: set[str] = set()
    for path, tree in sources(root):
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for node in tree.body:
            if isinstance(node, Function):
                defined[f"{module}.{node.name}"] = f"{path}:{node.lineno}"
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    used.add(f"{node.module}.{alias.name}")
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add(f"{modules.get(node.value.id)}.{node.attr}")
    return {name: place for name, place in defined.items() if name in used}


def one_word_functions(root: Path = ROOT) -> tuple[list[str], float]:
    """Shared functions of one word, and their share of all shared functions."""
    shared = shared_functions(root)
    short = [name for name in shared if "_" not in name.rpartition(".")[2].strip("_")]
    return [f"{shared[name]}: {name.rpartition('.')[2]}" for name in short], len(short) / len(
        shared
    )


def crowded_folders(root: Path = ROOT) -> list[str]:
    """Folders with too many Python files, those of tests too."""
    folders = Counter(
        path.parent.relative_to(root)
        for top in (*TOP, "tests")
        for path in (root / top).rglob("*.py")
    )
    return [f"{folder}: {count} files" for folder, count in folders.items() if count > MOST_FLAT]


def import_circles() -> list[str]:
    """Strongly connected modules, imports in functions and for types alone counted."""
    graph = grimp.build_graph(*TOP, cache_dir=None)
    reach = {module: graph.find_downstream_modules(module) for module in graph.modules}
    return sorted(
        f"{module} imports itself by way of {other}"
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
        if other in reach[module]
    )


ASKED = re.compile(
    r"(?:^|[;:.] )(?:what|whether|how|where|which|who|whose|when|that)\b"
    r"|\b(?:what|whether|how|who)\b|^(?:of|until|with|its|as)\b",
    re.IGNORECASE,
)
"""Description that asks, or that begins in the middle: it says something of a thing it leaves
unnamed."""


def names_concept(description: str) -> bool:
    """True for the description of a field or option that is a phrase with the thing as its head."""
    return not ASKED.search(description)


def asking_descriptions(root: Path = ROOT) -> list[str]:
    """Descriptions of fields and helps of options that ask instead of naming their concept."""
    described = [
        (path, word.value.lineno, text)
        for path, tree in sources(root)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg in ("description", "help") and isinstance(word.value, ast.Constant)
        if isinstance(text := word.value.value, str)
    ]
    return [f"{path}:{line}: {text}" for path, line, text in described if not names_concept(text)]


def _print_lines() -> None:
    counts = count_lines()
    for room, count in counts.items():
        print(f"{count:>7}  {room}")
    print(f"{sum(counts.values()):>7}  in all")


if __name__ == "__main__":
    if sys.argv[1:] == ["--lines"]:
        sys.exit(_print_lines())
    prefix = sys.argv[1] if len(sys.argv) > 1 else ""
    short, share = one_word_functions()
    for rule, broken in {
        "docstring begins as a question": questions(),
        "no package": folders_without_package(),
        "no module docstring": undocumented_modules(),
        "name repeated": repeated_names(),
        "no Args:": missing_args(),
        "empty name": empty_names(),
        f"one word, used across files (share {share:.0%})": short,
        "crowded folder": crowded_folders(),
        "circle": import_circles(),
        "description asks": asking_descriptions(),
        "second way to do a thing": second_ways(),
    }.items():
        here = [
            line for line in broken if line.startswith(prefix) or prefix.replace("/", ".") in line
        ]
        print(f"== {rule}: {len(here)} (of {len(broken)})")
        if prefix:
            print("\n".join(here))
