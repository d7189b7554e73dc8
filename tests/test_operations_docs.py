"""What docs/operations.md and SECURITY.md promise is what the code and the tests have."""

from __future__ import annotations

import re

from pipeline.doctor import DoctorConfig
from pipeline.exit_codes import ExitCode, exit_code_lines
from tests.job_runs import REPOSITORY
from tests.test_hostile_inputs import OUTSIDE

OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
SECURITY = (REPOSITORY / "SECURITY.md").read_text()


def test_the_table_of_exit_codes_is_the_list_in_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \| .* \|$", OPERATIONS, re.MULTILINE)
    assert rows == [(str(code.value), code.meaning) for code in ExitCode]
    assert len({code.value for code in ExitCode}) == len(exit_code_lines()) == len(rows)


def test_every_file_that_is_named_is_there() -> None:
    for name in set(re.findall(r"`(test_\w+\.py)`", SECURITY)):
        assert (REPOSITORY / "tests" / name).is_file(), name
    deploy = REPOSITORY / "configs" / "deploy"
    named = set(re.findall(r"`([\w-]+\.(?:yaml|json|service)|crontab|Dockerfile)`", OPERATIONS))
    for name in named:
        assert (deploy / name).is_file(), name
    assert {path.name for path in deploy.iterdir() if path.suffix != ".timer"} == named


def test_settings_that_are_named_exist() -> None:
    fields = DoctorConfig.model_fields
    sections = {"decode", "source", "engine", "lease", "clean_up", "dataset"}
    for section, key in re.findall(r"`(\w+)\.(\w+)`", OPERATIONS + SECURITY):
        if section in sections:
            annotation = fields[section].annotation
            assert key in annotation.model_fields, f"{section}.{key}"  # type: ignore[union-attr]
    for key in ("keep_states", "quarantine_budget", "max_removed_fraction", "on_removed"):
        assert key in fields


def test_the_number_of_hostile_rows_is_that_of_the_test() -> None:
    (number,) = re.findall(r"`test_hostile_inputs\.py`: (\d+) rows", SECURITY)
    assert int(number) == len(OUTSIDE)
