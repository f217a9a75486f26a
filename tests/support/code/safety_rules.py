"""What no code of the project may do, found in its syntax tree: `faults(source)`."""

import ast
from collections.abc import Iterator

PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BUILT_IN = ("eval", "exec")
FORBIDDEN = {
    "eval": "evaluates text",
    "exec": "executes text",
    "os.system": "starts a shell",
    "os.popen": "starts a shell",
    "subprocess.getoutput": "starts a shell",
    "subprocess.getstatusoutput": "starts a shell",
    "pandas.read_pickle": "reads pickle",
    "torch.jit.load": "reads pickle",
    "yaml.load": "reads YAML with Python objects",
    "yaml.full_load": "reads YAML with Python objects",
    "yaml.unsafe_load": "reads YAML with Python objects",
    "tempfile.mktemp": "names a file that another may make first",
    "shutil.unpack_archive": "unpacks beside pipeline/download/archive.py",
    "urllib.request.urlopen": "downloads beside pipeline/download/fetch.py",
    "urllib.request.urlretrieve": "downloads beside pipeline/download/fetch.py",
    "requests.get": "downloads beside pipeline/download/fetch.py",
    "requests.request": "downloads beside pipeline/download/fetch.py",
    "ssl._create_unverified_context": "checks no certificate",
}
FORBIDDEN_METHODS = {
    "to_pickle": "writes pickle",
    "extractall": "unpacks beside pipeline/download/archive.py",
}
REQUIRED = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
}
"""Arguments that a call must give by name, and their value."""
ONLY = {"trust_remote_code": False, "verify": True, "check_hostname": True, "shell": False}
"""The only value that an argument, a key or an attribute of this name may have."""
ENVIRONMENT = ("get", "setdefault")
"""What may be asked of os.environ, besides one variable and which there are; the values of all of
them are nobody's business."""


def faults(source: str) -> list[tuple[int, str]]:
    """(line, what is wrong), in order of the lines."""
    tree = ast.parse(source)
    names = dict(_imported_names(tree))
    allowed = {id(node) for node in _uses_of_one_variable(tree, names)}
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        found.extend((line, what) for what in _faults_of(node, names))
        if _dotted(node, names) == "os.environ" and id(node) not in allowed:
            found.append((line, "hands on the whole environment"))
    return sorted(found)


def _imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local name and full name of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                yield (alias.asname or first, alias.name if alias.asname else first)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """The full name of the imported or built-in thing that an expression spells, else ''."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id if node.id in BUILT_IN else "")
    if isinstance(node, ast.Attribute) and (left := _dotted(node.value, names)):
        return f"{left}.{node.attr}"
    return ""


def _faults_of(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Import(aliases):
            yield from (f"imports {alias.name}" for alias in aliases if _pickles(alias.name))
        case ast.ImportFrom(str(module)) if _pickles(module):
            yield f"imports {module}"
        case ast.Call():
            yield from _faults_of_call(node, names)
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant):
                    yield from _other_value(key.value, value)
        case ast.Assign([ast.Attribute(attr=name)], value):
            yield from _other_value(name, value)
        case ast.Constant(str(text)) if text.startswith(("http://", "ftp://")) and text[7:]:
            yield f"names the address {text}"


def _pickles(module: str) -> bool:
    return module.split(".")[0] in PICKLES


def _faults_of_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = _dotted(call.func, names)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in FORBIDDEN:
        yield f"{name}: {FORBIDDEN[name]}"
    if isinstance(call.func, ast.Attribute) and call.func.attr in FORBIDDEN_METHODS:
        yield f"{call.func.attr}: {FORBIDDEN_METHODS[call.func.attr]}"
    if name in REQUIRED:
        key, value = REQUIRED[name]
        if not _is(given.get(key), value):
            yield f"{name} without {key}={value}"
    if name.endswith("YAML") and not _is(given.get("typ", ast.Constant("safe")), "safe", "rt"):
        yield "YAML with Python objects"
    for keyword in call.keywords:
        yield from _other_value(keyword.arg, keyword.value)


def _other_value(name: object, value: ast.expr) -> Iterator[str]:
    if isinstance(name, str) and name in ONLY and not _is(value, ONLY[name]):
        yield f"{name} is not {ONLY[name]}"


def _is(value: ast.expr | None, *allowed: object) -> bool:
    return isinstance(value, ast.Constant) and value.value in allowed


def _uses_of_one_variable(tree: ast.AST, names: dict[str, str]) -> Iterator[ast.AST]:
    """os.environ where one variable or the names are asked for, or where a child inherits it."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value) if _dotted(value, names) == "os.environ":
                yield value
            case ast.Attribute(value, attr) if attr in ENVIRONMENT:
                yield value
            case ast.Compare(_, [ast.In() | ast.NotIn()], [value]):
                yield value
            case ast.comprehension(_, value):  # names alone
                yield value
            case ast.BinOp(left, ast.BitOr(), right):
                yield from (left, right)
