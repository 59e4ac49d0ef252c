"""``docs/configuration.md`` from the settings' definitions: ``python -m tools.config_docs > docs/configuration.md``."""

from restante import config

HEAD = """# Configuration

Nothing has to be configured. A value comes from, later wins: the default; the file; the environment; a flag.

- **The file** is TOML. `restante config` prints one with every setting commented out. It is named by `--config` or
  `RESTANTE_CONFIG`; else `restante.toml` of the current directory is read, if there is one.
- **Variables** are `RESTANTE_` and the setting's path in capitals: `RESTANTE_HTTP_LISTEN`.
- **Flags** of `restante serve` are given below; `--data-dir` goes with every command.

A wrong key or value ends the command with one line that names its place and what is allowed, exit code 2.
Sizes may be written as `64K`, `50 MiB`, `2G`. An address to listen on is `HOST:PORT`, `[IPV6]:PORT`, `:PORT` (every
IPv4 address), several with commas, or `off`. `restante config --effective` shows what holds.

This page is made from the definitions in `src/restante/config.py` by `python -m tools.config_docs`.
"""


def render() -> str:
    """The whole page."""
    docs = config.section_docs()
    lines = [HEAD.rstrip()]
    section: tuple[str, ...] | None = None
    for setting in config.settings():
        if setting.path[:-1] != section:
            section = setting.path[:-1]
            title = f"[{'.'.join(section)}]" if section else "Top of the file"
            lines += [f"\n## {title}\n"]
            lines += [f"{docs[section]}\n"] if section else []
            lines += ["| setting | default | what | allowed |", "|---|---|---|---|"]
        flag = f" `--{setting.flag}`" if setting.flag else ""
        place = f"`{setting.path[-1]}`" if setting.in_file else f"`{setting.variable}` (environment only)"
        lines.append(f"| {place}{flag} | {_shown(setting.default)} | {setting.doc} | {setting.allowed} |")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, tuple):
        return "none" if not value else ", ".join(value)
    return f"`{value}`" if str(value) else "none"


if __name__ == "__main__":
    print(render(), end="")
