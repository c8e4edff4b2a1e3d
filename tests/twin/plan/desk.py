"""`osteotwin plan` as its tests call it: an exit code that is expected, no traceback, JSON where it is asked for."""

import json

from typer.testing import CliRunner

from commands.plan import app


def run(case, command, *options, code=0):
    """The result of one command on a case."""
    result = CliRunner().invoke(app, [command, str(case), *options])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def answer(case, command, *options, code=0):
    """The same with `--json`, read."""
    return json.loads(run(case, command, *options, "--json", code=code).stdout)
