"""Nothing that is loaded can run code: what must not be called is called nowhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.job_runs import REPOSITORY

SOURCES = sorted(
    path for name in ("sweettok", "pipeline", "jobs") for path in (REPOSITORY / name).rglob("*.py")
)
FORBIDDEN = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads",
    "marshal.loads", "shelve.open", "joblib.load", "dill.load", "pandas.read_pickle",
    "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "eval", "exec",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "read_pickle"}
NEEDED = {  # a call that is allowed only so
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "np.load": ("allow_pickle", False),
}
# The format of a network that users give for a known measure; docs and its own message say what it
# is, and its hash is part of every result.
ALLOWED = {("pipeline/evaluation/feature_networks.py", "torch.jit.load")}


def dotted(node: ast.expr) -> str:
    """The name of what is called: "torch.load"."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def keyword(call: ast.Call, name: str) -> object:
    """The constant given for a keyword; None if it is something else."""
    values = [word.value for word in call.keywords if word.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def forbidden_calls(source: str) -> Iterator[str]:
    """Every call that must not be made."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        method = name.rpartition(".")[2]
        if name in FORBIDDEN or method in FORBIDDEN_METHODS or name.endswith("torch.jit.load"):
            yield name
        if name in NEEDED and keyword(node, NEEDED[name][0]) is not NEEDED[name][1]:
            yield name
        if keyword(node, "shell") is True or keyword(node, "trust_remote_code") is True:
            yield f"{name}(shell or trust_remote_code)"
        if name == "yaml.load" and not _is_our_loader(node):
            yield name


def _is_our_loader(call: ast.Call) -> bool:
    return any(
        word.arg == "Loader" and "Unsafe" not in dotted(word.value) for word in call.keywords
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_source_file_calls_what_can_run_code(path: Path) -> None:
    name = path.relative_to(REPOSITORY).as_posix()
    found = {call for call in forbidden_calls(path.read_text()) if (name, call) not in ALLOWED}
    assert found == set()


def test_the_search_finds_what_it_is_for() -> None:
    for line in (
        "pickle.loads(x)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "subprocess.run(x, shell=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "eval(text)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "torch.jit.load(path)",
    ):
        assert list(forbidden_calls(line)), line
    for line in (
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "yaml.load(text, Loader=_Strict)",
        "model.eval()",
        "safetensors.torch.load(content)",
    ):
        assert not list(forbidden_calls(line)), line
