"""One page per job: what its `--help` prints, and its settings, from the scripts themselves."""

from __future__ import annotations

from pathlib import Path

from job_scripts import JobScript, read_jobs
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from setting_tables import setting_table

_INDEX = "commands/index.md"
_INTRODUCTION = """# Commands

All jobs with `--config` also take any number of `--set a.b=value`, print the complete configuration
with `--print-config`, and end with the [exit codes](../operations.md#exit-codes) of one list.

| command | what it does |
|---|---|
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages below "Commands"."""
    names = [path.stem for path in sorted(_folder(config).glob("*.py"))]
    pages = [_INDEX, *({name: f"commands/{name}.md"} for name in names)]
    config.nav = [{"Commands": pages} if "Commands" in item else item for item in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Writes them."""
    jobs = read_jobs(_folder(config))
    rows = [f"| [`{job.name}`]({job.name}.md) | {job.summary} |" for job in jobs]
    files.append(File.generated(config, _INDEX, content=_INTRODUCTION + "\n".join(rows)))
    for job in jobs:
        files.append(File.generated(config, f"commands/{job.name}.md", content=_page(job)))
    return files


def _folder(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent / "jobs"


def _page(job: JobScript) -> str:
    parts = [f"# {job.name}", f"```text\n{job.help}\n```"]
    if job.config_class is not None:
        table = setting_table(job.config_class, "../reference/settings.md")
        parts += ["## Settings", table]
    return "\n\n".join(parts)
