"""`podium config`."""

from __future__ import annotations

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context
from podium.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(context: Context, args: Args) -> int:
    """Print the merged configuration."""
    from podium.config import load

    config = load(context.config)
    if args.format:
        output.print_json({"schema": "podium.config/1", "config": config.values, "origins": config.origins})
    else:
        print(render(config.values, config.origins), end="")
    return 0


def render(values: dict[str, dict[str, Any]], origins: dict[str, str]) -> str:
    """The configuration as TOML, with where each value is from as a comment.

    Raises:
        Failed: it would not be read back as it is.
    """
    import tomllib

    import toml

    from podium.config import PLUGINS

    encoder: toml.TomlEncoder[dict[str, Any]] = toml.TomlEncoder()
    encoder.dump_funcs[str] = quoted  # the library's own way with strings corrupts escapes
    lines: list[str] = []
    for table, keys in values.items():
        if table == PLUGINS:
            continue  # has tables in it, which have to come last
        lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
        for key, value in keys.items():
            entry = toml.dumps({key: value}, encoder).rstrip("\n")
            lines.append(f"{entry}  # {output.clean(origins.get(f'{table}.{key}', 'built in'))}")
    if plugins := values.get(PLUGINS):
        lines += ["", *toml.dumps({PLUGINS: plugins}, encoder).rstrip("\n").splitlines()]
    lines += [f"# {output.clean(f'{k}: {v}')}" for k, v in origins.items() if k.startswith(f"{PLUGINS}.")]
    text = "\n".join([*lines, ""])
    if tomllib.loads(text) != {k: v for k, v in values.items() if k != PLUGINS or v}:
        raise Failed("the configuration can't be written as TOML", hint="use 'podium config --format json'")
    return text


def quoted(text: str) -> str:
    """A basic string of TOML 1.0."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


COMMAND = Command(
    "config",
    "show the configuration and where it is from",
    run,
    options=(FORMAT,),
    about="Built-in values, /usr/lib/podium/config.toml, /etc/podium/config.toml and --config FILE; the last wins.",
    examples=("podium config",),
)
