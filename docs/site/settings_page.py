"""The page of all sections that a job's configuration may have."""

from __future__ import annotations

from pathlib import Path

from job_scripts import read_jobs
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from setting_tables import anchor, sections_below, setting_table, summary

from sweettok.strict_config import StrictConfig

_PAGE = "reference/settings.md"
_INTRODUCTION = """# Settings

The sections of the jobs' configurations. Those at the top of a file are on the page of the
[command](../commands/index.md) that reads it. "Its own" as a default means the defaults of the
section that the type names.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Writes it."""
    jobs = read_jobs(Path(config.config_file_path).parent / "jobs")
    classes = [job.config_class for job in jobs if job.config_class is not None]
    sections = {section for each in classes for section in sections_below(each)}
    parts = [
        _section(each) for each in sorted(sections, key=lambda each: (each.__name__, anchor(each)))
    ]
    files.append(File.generated(config, _PAGE, content="\n\n".join([_INTRODUCTION, *parts])))
    return files


def _section(config_class: type[StrictConfig]) -> str:
    heading = f"## {config_class.__name__} {{#{anchor(config_class)}}}"
    module = f"*`{config_class.__module__}`*"
    return "\n\n".join(
        [heading, f"{module}: {summary(config_class)}", setting_table(config_class, "settings.md")]
    )
