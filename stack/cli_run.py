"""How a command of ours ends: every error is one line on stderr, and Ctrl-C is code 130. It imports little."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from stack.core.errors import StackError

PROGRAM = "python -m stack"


def run(command: click.Command, name: str = PROGRAM, arguments: list[str] | None = None) -> NoReturn:
    """Run a command line, that of this process if none is given, and end the process."""
    code: Any
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.MissingParameter as error:
        usage = error.ctx.get_usage().split(maxsplit=1)[1] if error.ctx is not None else name
        click.echo(f"Error: {error.format_message().rstrip('.')}: {' '.join(usage.split())}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        code = error.exit_code
    except StackError as error:
        click.echo(f"Error: {error}", err=True)
        code = 1
    except click.Abort:
        click.echo("Interrupted.", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
