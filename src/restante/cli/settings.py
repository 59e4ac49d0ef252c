"""``restante config`` and ``restante version``."""

import platform
from pathlib import Path

import click

from restante import __version__
from restante import config as definitions
from restante.cli import output
from restante.cli.running import Call, common, example


@click.command(epilog=example("restante config > restante.toml"))
@click.option("--effective", is_flag=True, help="The values that hold here and now instead of the defaults.")
@common
def config(call: Call, effective: bool) -> None:
    """Print every setting with its default, as a commented file."""
    if not (effective or call.json):
        print(definitions.render(), end="")
        return
    loaded = call.load() if effective else definitions.Config()
    values = {}
    for setting in definitions.settings():
        value = definitions.value(loaded, setting)
        if setting.secret:
            value = None if not value else "set"
        values[setting.key] = str(value) if isinstance(value, Path) else value
    if call.json:
        output.as_json({"settings": values})
    else:
        output.fields(values)


@click.command(epilog=example("restante version --json"))
@common
def version(call: Call) -> None:
    """Print the version."""
    import apsw

    found = {"restante": __version__, "python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()}
    if call.json:
        output.as_json(found)
    else:
        print(f"restante {__version__} (Python {found['python']}, SQLite {found['sqlite']})")
