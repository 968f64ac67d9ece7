"""What `taxiway profile` found, and where it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from taxiway.core.errors import TaxiwayError
from taxiway.intake.read.plain import plain_json, plain_lines


@dataclass(frozen=True, slots=True)
class Result:
    """What was found, in three forms.

    Attributes:
        data: for a program, as JSON has it.
        lines: for a person.
        page: HTML.
        problem: what it means for the exit code, raised once all is told; None: nothing is wrong.
    """

    data: Any
    lines: Sequence[str]
    page: Callable[[], str]
    problem: TaxiwayError | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go.

    Attributes:
        printed: text or json.
        json_file, html_file: written beside that.
    """

    printed: str
    json_file: Path | None
    html_file: Path | None

    def tell(self, result: Result) -> None:
        """Print it, and write what is wanted.

        Raises:
            TaxiwayError: the result's problem.
        """
        text = json.dumps(result.data, indent=2, ensure_ascii=False)
        if self.json_file is not None:
            self.json_file.write_text(text + "\n", encoding="utf-8")
        if self.html_file is not None:
            self.html_file.write_text(result.page(), encoding="utf-8")
        click.echo(plain_json(text) if self.printed == "json" else plain_lines("\n".join(result.lines)))
        if result.problem is not None:
            raise result.problem
