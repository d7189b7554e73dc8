"""What all jobs share: arguments, configuration, logging, one readable line per failure.

A job is a script of a few lines: it names its config class and the function that does the work.
What its exit code says is in `pipeline.exit_codes`.
"""

from __future__ import annotations

import argparse
import atexit
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from pipeline.exit_codes import ExitCode, exit_code_lines
from pipeline.termination import terminated_like_interrupted
from sweettok.errors import ConfigError, SweetTokError
from sweettok.strict_config import StrictConfig, load_config
from sweettok.uri_secrets import redacted

ConfigT = TypeVar("ConfigT", bound=StrictConfig)


@dataclass(frozen=True)
class Flag:
    """An argument of its own for a setting that people reach for often.

    Attributes:
        name: As on the command line: "--on-removed".
        key: The setting's dotted path.
        help: What it does, for `--help`.
        choices: The values it may have; any if empty.
        is_list: It takes several values, separated by commas; alone it means ["all"].
        constant: The value, in YAML, that it stands for, if it takes none.
    """

    name: str
    key: str
    help: str
    choices: tuple[str, ...] = ()
    is_list: bool = False
    constant: str | None = None

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Adds the argument."""
        if self.constant is not None:
            parser.add_argument(
                self.name, dest=self.key, help=self.help, action="store_const", const=self.constant
            )
            return
        options: dict[str, Any] = {"choices": self.choices} if self.choices else {}
        if self.is_list:
            options |= {"nargs": "?", "const": "all"}
        metavar = None if self.choices else "A,B" if self.is_list else "VALUE"
        parser.add_argument(self.name, dest=self.key, help=self.help, metavar=metavar, **options)

    def override(self, text: str) -> str:
        """The override that `text` on the command line stands for."""
        if self.constant is not None:
            return f"{self.key}={self.constant}"
        value = [part.strip() for part in text.split(",")] if self.is_list else text
        return f"{self.key}={json.dumps(value)}"


_LONGEST_EXIT_S = 60.0


def run_job(
    description: str,
    config_class: type[ConfigT],
    work: Callable[[ConfigT], object],
    *,
    example: str,
    flags: Sequence[Flag] = (),
    arguments: Sequence[str] | None = None,
) -> int:
    """Parses the command line, does the work, and returns the process's exit code.

    Args:
        description: What the job does: the top of its `--help`.
        config_class: What `--config` is read into.
        work: Does the job; its exceptions of our own trees become one line on stderr.
        example: A complete command line, shown at the end of `--help`.
        flags: Settings with an argument of their own; `--set` of the same setting wins.
        arguments: The command line; the process's own if None.
    """
    parser = _parser(description, example)
    for flag in flags:
        flag.add_to(parser)
    options = parser.parse_args(arguments)
    _start_log()
    try:
        given = {flag: getattr(options, flag.key) for flag in flags}
        overrides = [flag.override(text) for flag, text in given.items() if text is not None]
        config = load_config(config_class, options.config, [*overrides, *options.set])
        if options.print_config:
            sys.stdout.write(config.to_yaml())
            return ExitCode.DONE
        with terminated_like_interrupted():
            work(config)
    except (ConfigError, PipelineError, SweetTokError, OSError) as error:
        return _fail(parser, error, ExitCode.of(error))
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted; the same command continues\n")
        sys.stderr.flush()
        sys.stdout.flush()
        # Threads that wait for Ray would turn an orderly exit into a crash with another code; Ray's
        # own processes end with this one.
        os._exit(ExitCode.INTERRUPTED)
    return ExitCode.DONE


class RedactingFormatter(logging.Formatter):
    """Writes log lines, tracebacks included, without the credentials that they may hold."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with every credential replaced."""
        return redacted(super().format(record))


def _start_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _parser(description: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        epilog="\n".join(["example:", f"  {example}", "", "exit codes:", *exit_code_lines()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="YAML file with all settings"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="override one setting; may be given many times",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the complete configuration, defaults and overrides included, and stop",
    )
    return parser


def _fail(parser: argparse.ArgumentParser, error: Exception, exit_code: int) -> int:
    sys.stderr.write(redacted(f"{parser.prog}: {error}\n"))
    atexit.register(_end_soon, exit_code)  # runs before the handlers that were there already
    return exit_code


def _end_soon(exit_code: int) -> None:
    """Ends an exiting process if it has not ended by itself in time.

    After a failed start Ray's exit handlers may wait for ever for processes that never came up, and
    a scheduler would take the job for a running one.
    """

    def end() -> None:
        time.sleep(_LONGEST_EXIT_S)
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(exit_code)

    threading.Thread(target=end, name="exit", daemon=True).start()
