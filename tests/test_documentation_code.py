"""What the documentation shows is what the code has: commands, settings, code, files, messages."""

from __future__ import annotations

import ast
import importlib
import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import pydantic
import pytest
import yaml

from docs.site.job_scripts import JobScript, read_jobs
from docs.site.setting_tables import sections_below
from sweettok.strict_config import StrictConfig
from tests.doc_pages import (
    PAGES,
    REPOSITORY,
    Block,
    Command,
    blocks,
    blocks_in,
    commands,
    named_paths,
)

TROUBLESHOOTING = REPOSITORY / "docs" / "troubleshooting.md"
LEAST_QUOTED_CHARACTERS = 10
FILE_SUFFIXES = (
    "html",
    "json",
    "jsonl",
    "md",
    "mp4",
    "parquet",
    "png",
    "py",
    "safetensors",
    "yaml",
)


@pytest.fixture(scope="module")
def jobs() -> dict[str, JobScript]:
    return {job.name: job for job in read_jobs(REPOSITORY / "jobs")}


@pytest.mark.parametrize("command", list(commands()), ids=str)
def test_a_command_is_one_that_its_job_takes(
    command: Command, jobs: dict[str, JobScript], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs[command.job]
    if job.config_class is None:
        options = [word for word in command.arguments if word.startswith("-")]
        assert [option for option in options if option not in job.help] == []
        return
    script = REPOSITORY / "jobs" / f"{command.job}.py"
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", [str(script), *command.arguments, "--print-config"])
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    # It is the complete configuration: it can be read again.
    job.config_class.from_mapping(yaml.safe_load(printed.getvalue()))


def test_there_are_commands_to_check() -> None:
    found = list(commands())
    assert len(found) > 40
    assert any("takedown.videos" in argument for each in found for argument in each.arguments)


@cache
def config_classes() -> tuple[type[StrictConfig], ...]:
    """All sections of all jobs' configurations, the whole ones first."""
    whole = [job.config_class for job in read_jobs(REPOSITORY / "jobs") if job.config_class]
    below = [section for each in whole for section in sections_below(each)]
    return tuple(dict.fromkeys([*whole, *below]))


@pytest.mark.parametrize("block", blocks_in("yaml"), ids=str)
def test_a_configuration_has_keys_and_values_of_a_real_one(block: Block) -> None:
    values = yaml.safe_load(block.text)
    assert any(is_part_of(values, each) for each in config_classes()), block.text


def is_part_of(values: dict[str, Any], config_class: type[StrictConfig]) -> bool:
    """Whether a class has all these keys, and takes each of these values."""
    fields = config_class.model_fields
    if not values.keys() <= fields.keys():
        return False
    try:
        for name, value in values.items():
            pydantic.TypeAdapter(fields[name].annotation).validate_python(value)
    except pydantic.ValidationError:
        return False
    return True


def test_a_wrong_key_is_part_of_no_configuration() -> None:
    assert not any(is_part_of({"source": {"urls": ["x"]}}, each) for each in config_classes())
    assert not any(is_part_of({"clips": {"tail": "cut"}}, each) for each in config_classes())


def resolves(path: list[str], annotation: Any) -> bool:
    """Whether a dotted path of keys exists below a type."""
    if not path:
        return True
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        field = annotation.model_fields.get(path[0])
        return field is not None and resolves(path[1:], field.annotation)
    arguments = getattr(annotation, "__args__", ())
    if getattr(annotation, "__origin__", None) is dict or "Mapping" in str(annotation)[:40]:
        return resolves(path[1:], arguments[-1])
    return any(resolves(path, argument) for argument in arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_text_exist(page: Any) -> None:
    classes = config_classes()
    sections = {
        name
        for each in classes
        for name, field in each.model_fields.items()
        if any(resolves([key], field.annotation) for below in classes for key in below.model_fields)
    }
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for dotted in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:[=:][^`]*)?`", text):
        path = dotted.split(".")
        if path[0] in sections and path[-1] not in FILE_SUFFIXES:
            assert any(resolves(path, each) for each in classes), dotted


@pytest.mark.parametrize("block", blocks_in("python"), ids=str)
def test_python_compiles_and_imports_what_exists(block: Block) -> None:
    tree = ast.parse(block.text, filename=str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block}: {node.module}.{alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Any) -> None:
    for name in named_paths(page):
        assert list(REPOSITORY.glob(name)), f"{page.name}: {name}"


def test_every_job_is_in_the_readme(jobs: dict[str, JobScript]) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert [name for name in jobs if f"`{name}`" not in readme] == []


def source_texts() -> list[str]:
    """Every text in the code, "…" standing for what is filled in."""
    files = [
        path for name in ("pipeline", "sweettok") for path in (REPOSITORY / name).rglob("*.py")
    ]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return [text for tree in trees for node in ast.walk(tree) if (text := text_of(node))]


def text_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{text_of(node.left) or '…'}{text_of(node.right) or '…'}"
    return None


def fixed_parts(line: str) -> list[str]:
    """What a quoted message says in every case."""
    return [part.strip(" :") for part in line.split("…") if part.strip(" :")]


def is_said_by(line: str, text: str) -> bool:
    """Whether a text of the code has the fixed parts of a quoted message, in their order."""
    pattern = ".*".join(re.escape(part) for part in fixed_parts(line))
    return re.search(pattern, text, re.DOTALL) is not None


def test_the_code_says_the_messages_that_are_explained() -> None:
    texts = source_texts()
    quoted = [block for block in blocks(TROUBLESHOOTING) if block.language == "message"]
    assert len(quoted) >= 20
    for block in quoted:
        for line in block.text.strip().splitlines():
            length = sum(map(len, fixed_parts(line)))
            assert length >= LEAST_QUOTED_CHARACTERS, f"{block}: {line}"
            assert any(is_said_by(line, text) for text in texts), f"{block}: {line}"


def test_every_message_has_its_cause_and_its_remedy() -> None:
    parts = re.split(r"^```message\n.*?^```$", TROUBLESHOOTING.read_text(), flags=re.M | re.DOTALL)
    for answer in parts[1:]:
        assert answer.strip().startswith("*Cause:*"), answer
        assert answer.count("*Remedy:*") == 1, answer
