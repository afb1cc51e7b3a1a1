"""Keeps the rules of the source tree: which room may import which, how big things may get, and that ignores say why.

Every rule is a function from sources to complaints, so that the same file shows each rule catching a bad source.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_FILE_LINES, MAX_FUNCTION_LINES, USUAL_FUNCTION_LINES, MAX_PARAMETERS = 350, 60, 25, 6

# Who may import a package at all, inside functions too.
ONLY_IN = {
    "mlflow": ["service/tuning/tracking*", "tests/*"],
    "torch": ["trainables/*", "service/tuning/trial*", "service/tuning/reporting*", "service/tuning/lightning_config*",
              "service/tuning/signature_check*", "tests/*"],
    "pytorch_lightning": ["trainables/*", "service/tuning/trial*", "service/tuning/reporting*",
                          "service/tuning/lightning_config*", "service/tuning/signature_check*", "tests/*"],
    "sqlalchemy": ["service/store/*", "tests/*"],
    "fastapi": ["service/api/*", "tests/*"],
    "lightning": [],
}  # fmt: skip
# Who may import a package while the file itself is being imported.
ONLY_AT_TOP_OF = {"ray": ["service/tuning/ray_session.py", "service/tuning/tune_*.py", "tests/*"]}
# What the files of a room must never import, inside functions too.
NEVER_IN = {
    "trainables/*": ["service", "cluster", "ray", "mlflow"],
    "cluster/*": ["service", "trainables"],
    "service/tuning/*": ["cluster", "service.settings", "service.records", "service.queueing", "service.sweeps",
                         "service.shipping", "service.store", "service.views", "service.control", "service.api",
                         "service.server", "service.client", "service.doctor", "service.cli"],
    "service/tuning/searchers/*": ["ray", "torch", "mlflow"],
    "service/tuning/schedulers/*": ["ray", "torch", "mlflow"],
}  # fmt: skip
# In `service` a room imports only rooms before it; `service.tuning` has its own rule above, and `service.spec` never
# needs it but for the plugins that a sweep file names.
LAYERS = (
    ("errors", "settings", "records", "plugins"),
    ("spec",),
    ("queueing",),
    ("sweeps",),
    ("shipping",),
    ("store",),
    ("views",),
    ("control",),
    ("api",),
    ("server", "client"),
    ("doctor",),
    ("cli",),
)
ENVIRONMENT_IN = ["service/settings.py", "service/tuning/driver*.py", "service/tuning/tracking*.py",
                  "service/tuning/ray_environment.py", "cluster/*.py", "tests/*"]  # fmt: skip
HEAVY = ("torch", "ray", "mlflow", "plotly", "optuna", "scipy", "sqlalchemy", "numpy", "pytorch_lightning", "sklearn")


def files(*patterns: str) -> list[Path]:
    """Files of the working tree that git does not ignore."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],  # noqa: S607  # any git
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [ROOT / name for name in listing if (ROOT / name).is_file()]


def sources() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in files("*.py")}


def imports(tree: ast.AST, *, top_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import; with `top_only` just those that run when the file itself is imported."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not (guarded or (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))):
            stack.extend(ast.iter_child_nodes(node))


def is_in(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def import_direction(name: str, source: str) -> Iterator[str]:
    tree = ast.parse(source)
    for line, module in imports(tree):
        for package, where in ONLY_IN.items():
            if within(module, package) and not is_in(name, where):
                yield f"{name}:{line}: {package} may be imported only in {where}"
        for room, forbidden in NEVER_IN.items():
            if fnmatch(name, room) and any(within(module, package) for package in forbidden):
                yield f"{name}:{line}: a file of {room} must not import {module}"
    for line, module in imports(tree, top_only=True):
        for package, where in ONLY_AT_TOP_OF.items():
            if within(module, package) and not is_in(name, where):
                yield f"{name}:{line}: {package} may be imported at module level only in {where}"


def layer(module: str) -> int | None:
    parts = module.removesuffix(".py").replace("/", ".").split(".")
    if parts[0] != "service" or len(parts) < 2:
        return None
    return next((i for i, names in enumerate(LAYERS) if is_in(parts[1], list(names))), None)


def layer_order(name: str, source: str) -> Iterator[str]:
    mine = layer(name)
    for line, module in imports(ast.parse(source)):
        theirs = layer(module)
        if mine is not None and theirs is not None and theirs > mine:
            yield f"{name}:{line}: {module} belongs to a later layer of service"


def environment(name: str, source: str) -> Iterator[str]:
    for number, text in enumerate(source.splitlines(), 1):
        reads = re.search(r"\bos\.(environ|getenv|putenv)\b", text)  # to hand it on is to hand on the service's secrets
        if reads and not is_in(name, ENVIRONMENT_IN):
            yield f"{name}:{number}: environment variables are read in service/settings.py only"


def size(name: str, source: str) -> Iterator[str]:
    count = source.count("\n")
    if count > MAX_FILE_LINES:
        yield f"{name}: {count} lines, at most {MAX_FILE_LINES}"
    for node in functions(source):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [a for a in arguments if a.arg not in ("self", "cls")]
        if length(node) > MAX_FUNCTION_LINES:
            yield f"{name}:{node.lineno}: {node.name} has {length(node)} lines, at most {MAX_FUNCTION_LINES}"
        is_knobs = node.name == "__init__" and name.startswith(
            "trainables/"
        )  # LightningCLI reads what is tunable there
        if len(parameters) > MAX_PARAMETERS and not is_knobs:
            yield f"{name}:{node.lineno}: {node.name} has {len(parameters)} parameters, at most {MAX_PARAMETERS}"


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def fully_annotated(name: str, source: str) -> Iterator[str]:
    for node in functions(source):
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        bare = [a.arg for a in every if a and a.annotation is None and a.arg not in ("self", "cls")]
        if bare or node.returns is None:
            yield f"{name}:{node.lineno}: {node.name} is not fully annotated ({', '.join(bare) or 'return'})"


def docstring(name: str, source: str) -> Iterator[str]:
    if not ast.get_docstring(ast.parse(source)):
        yield f"{name}: no module docstring that says why the file exists"


def words(name: str, source: str) -> Iterator[str]:
    marks = r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b"
    places = r"(?<![\w.])/(home|root|work|Users|opt)" + r"/\w|C:\\\\?Users"
    hosts = r"\b(" + "|".join(["py" + r"pi\.org", r"pythonhosted" + r"\.org", r"npmjs" + r"\.(com|org)"]) + r")\b"
    for number, text in enumerate(source.splitlines(), 1):
        for rule, pattern in (("unfinished work", marks), ("a machine's path", places), ("a registry's host", hosts)):
            if re.search(pattern, text):
                yield f"{name}:{number}: {rule}: {text.strip()[:80]}"


def ignores(name: str, source: str) -> Iterator[str]:
    noqa, ignore = "no" + "qa", "type:" + " ignore"
    for number, text in enumerate(source.splitlines(), 1):
        if f"# {noqa}" in text and not re.search(rf"# {noqa}: [A-Z0-9, ]+  # \w", text):
            yield f"{name}:{number}: `{noqa}` needs codes and a reason: `# {noqa}: CODE  # reason`"
        if f"# {ignore}" in text and not re.search(rf"# {ignore}\[[\w, -]+\]  # \w", text):
            yield f"{name}:{number}: `{ignore}` needs a code and a reason: `# {ignore}[code]  # reason`"


def module_name(name: str, _source: str) -> Iterator[str]:
    if Path(name).stem in ("utils", "util", "helpers", "helper", "common", "misc"):
        yield f"{name}: a file is named after what it is about"


def project_file(text: str, exists: Callable[[str], bool]) -> Iterator[str]:
    """Dependencies say which file needs them; every ignored rule and ignored import says why."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r'\s+"[A-Za-z][\w.-]*(\[\w+\])?[<>=].*",', line):
            comment = re.search(r"#\s*(\S+?)[:,\s]", line + " ")
            if comment is None or not exists(comment[1]):
                yield f"pyproject.toml:{number}: say which existing file needs this: {line.strip()}"
        if re.match(r'\s+"[A-Z]+\d*",', line) and not re.search(r"#\s*\S", line):
            yield f"pyproject.toml:{number}: an ignored rule without a reason: {line.strip()}"
    for block in text.split("[[tool.mypy.overrides]]")[1:]:
        if not block.lstrip("\n").startswith("#"):
            yield "pyproject.toml: a mypy override without a reason above its first key"


RULES: list[Callable[[str, str], Iterator[str]]] = [
    import_direction, layer_order, environment, size, fully_annotated, docstring, words, ignores, module_name,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_source_keeps(rule: Callable[[str, str], Iterator[str]]) -> None:
    complaints = [complaint for name, source in sources().items() for complaint in rule(name, source)]
    assert not complaints, "\n".join(complaints)


def test_nearly_all_functions_are_short() -> None:
    lengths = [(length(node), name, node.name) for name, source in sources().items() for node in functions(source)]
    long = [entry for entry in lengths if entry[0] > USUAL_FUNCTION_LINES]
    assert len(long) <= 0.05 * len(lengths), (
        f"{len(long)} of {len(lengths)} are long: {sorted(long, reverse=True)[:30]}"
    )


def test_other_files_are_clean() -> None:
    texts = files("*.md", "*.yaml", "*.toml", "*.txt", "Makefile", ".ci/*", ".gitignore", "k8s/*")
    complaints = [c for path in texts for c in words(str(path.relative_to(ROOT)), path.read_text())]
    assert not complaints, "\n".join(complaints)


def test_pyproject_explains_itself() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    complaints = list(project_file(text, lambda name: (ROOT / name).exists()))
    assert not complaints, "\n".join(complaints)
    assert "lightning" not in {re.split(r"[\[<>=]", d)[0] for d in tomllib.loads(text)["project"]["dependencies"]}


def test_top_level_holds_only_what_tools_need() -> None:
    tops = {path.relative_to(ROOT).parts[0] for path in files()}
    allowed = {"pyproject.toml", "README.md", "service", "trainables", "cluster", "tests", "k8s", "Makefile", "LICENSE",
               "constraints.txt", "CHANGELOG.md"}  # fmt: skip
    assert {top for top in tops - allowed if not top.startswith(".")} == set()


def test_command_line_starts_without_heavy_packages() -> None:
    code = f"import sys, service.cli.main; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


BAD = [
    (import_direction, "trainables/bad.py", "import service.spec.sweep_spec"),
    (import_direction, "cluster/bad.py", "def f() -> None:\n    from service import errors"),
    (import_direction, "service/bad.py", "import ray"),
    (import_direction, "service/tuning/report.py", "def f() -> None:\n    import mlflow.tracking"),
    (import_direction, "service/cli/main.py", "import torch"),
    (import_direction, "service/tuning/trial.py", "import lightning"),
    (import_direction, "service/tuning/driver.py", "from service import cli"),
    (import_direction, "service/tuning/searchers/bad.py", "def f() -> None:\n    import torch"),
    (layer_order, "service/spec/space.py", "from service.store import Store"),
    (layer_order, "service/errors.py", "from service import cli"),
    (environment, "service/spec/sweep_spec.py", "import os\nhome = os.environ['HOME']"),
    (size, "service/bad.py", "\n" * 351),
    (size, "service/bad.py", "def f() -> None:\n" + "    pass\n" * 60),
    (size, "service/bad.py", "def f(a: int, b: int, c: int, d: int, e: int, *, f: int, g: int) -> None: ..."),
    (fully_annotated, "service/bad.py", "def f(a) -> None: ..."),
    (fully_annotated, "service/bad.py", "def f(self): ..."),
    (docstring, "service/bad.py", "a = 1"),
    (words, "service/bad.py", "# TO" + "DO: later"),
    (words, "service/bad.py", "path = '/ho" + "me/someone/x'"),
    (ignores, "service/bad.py", "import os  # no" + "qa: F401"),
    (ignores, "service/bad.py", "import os  # no" + "qa"),
    (ignores, "service/bad.py", "x = 1  # type: " + "ignore[attr-defined]"),
    (module_name, "service/utils.py", ""),
]


@pytest.mark.parametrize(("rule", "name", "source"), BAD)
def test_each_rule_catches_a_bad_source(rule: Callable[[str, str], Iterator[str]], name: str, source: str) -> None:
    assert list(rule(name, source))


@pytest.mark.parametrize(
    "text",
    ['    "torch>=2",\n', '    "torch>=2",  # no/such.py: because\n', '    "D203",\n',
     '[[tool.mypy.overrides]]\nmodule = ["x"]\n'],
)  # fmt: skip
def test_project_rule_catches_a_missing_reason(text: str) -> None:
    assert list(project_file(text, lambda name: name == "service/spec/sweep_spec.py"))


def test_good_sources_pass() -> None:
    good = '"""Why."""\n\n\ndef f(a: int) -> int:\n    """Return it."""\n    import ray\n\n    return a\n'
    assert [c for rule in RULES for c in rule("service/control/controller.py", good)] == []
