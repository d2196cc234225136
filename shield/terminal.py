"""What all commands share: exit codes, messages, tables and progress that look well on a terminal and stay plain in a pipe."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

OK, FINDINGS, USAGE, FAILURE = 0, 1, 2, 3
EXAMPLE = "\n\nExample: "

ConfigPath = Annotated[Path, typer.Argument(help="The configuration file.", metavar="CONFIG")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]


def fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


def say(text: str) -> None:
    """To stderr, so that stdout stays for results."""
    typer.echo(text, err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on a terminal, columns `right` aligned to the right; tab-separated lines with a header elsewhere."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))  # as it is: brackets in a title are no markup
    Console().print(shown)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over bytes with the time left on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)
