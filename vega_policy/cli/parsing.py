"""Command lines and YAML files into dataclasses: `--config_path=file.yaml` plus `--section.field=value`.

A thin layer over draccus that adds what it leaves out: an unknown key, typed or in the file, is refused with
the nearest known one; one option of a section leaves the section's other defaults as they are; and every
mistake of the user ends in one line on stderr and exit code 2, not in a traceback. It imports nothing heavy,
so `--help` is immediate; keep configuration modules light as well.
"""

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import draccus
from draccus.argparsing import ArgumentParser
from draccus.cfgparsing import load_config
from draccus.utils import CONFIG_ARG, DecodingError, DraccusException, ParsingError

MAX_PORT = 65535


def parse[Config](
    config_class: type[Config], argv: Sequence[str] | None = None, prog: str | None = None
) -> Config:
    """Build a configuration from a command line.

    Args:
        config_class: A dataclass; nested dataclasses become `--section.field` options and the comment behind
            a field becomes its help text.
        argv: Arguments without the program's name; the process's own when None.
        prog: The program's name in messages; that of the process when None.

    Returns:
        The configuration: defaults, overridden by the YAML file, overridden by the command line.

    Raises:
        SystemExit: With code 0 after `--help`; with code 2 and a one-line message for an unknown key, a value
            of the wrong type, an unreadable file, or a ValueError from the dataclass's own checks.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    usage = f"%(prog)s [--{CONFIG_ARG}=FILE.yaml] [--option=value ...]"
    parser = ArgumentParser(config_class, prog=prog, usage=usage)
    options = {name.removeprefix("--") for name in parser.parser._option_string_actions}
    try:
        typed, written = _option_names(arguments), _yaml_keys(arguments, _leaves(options))
        refuse_unknown(typed, options, "option", prefix="--")
        refuse_unknown(written, options, f"key in --{CONFIG_ARG}")
        return parser.parse_args([*_kept_defaults(config_class, [*typed, *written]), *arguments])
    except (DraccusException, OSError, ValueError) as error:
        parser.parser.exit(2, f"{parser.parser.prog}: error: {_explain(error)}\n")
        raise


def refuse_unknown(names: Iterable[str], known: Iterable[str], kind: str, prefix: str = "") -> None:
    """Refuse names outside a closed set, suggesting the nearest known one.

    Raises:
        ValueError: For the first unknown name; `kind` says what it should have been.
    """
    choices = sorted(known)
    for name in names:
        if name in choices:
            continue
        nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"known: {', '.join(choices)}"
        raise ValueError(f"unknown {kind} {prefix}{name}; {hint}")


def check_port(port: int) -> None:
    """Refuse what cannot be listened on; 0 takes any free port.

    Raises:
        ValueError: It is no port.
    """
    if not 0 <= port <= MAX_PORT:
        raise ValueError(f"expected --port in 0..{MAX_PORT}, got {port}")


def _kept_defaults(config: Any, given: Sequence[str], prefix: str = "") -> Iterator[str]:
    """Options that repeat the defaults of sections of which only a part is given.

    draccus makes such a section of its class's defaults; what the default of the field itself says would be
    lost, and `--policy.backbone.init_seed=1` would change the whole backbone. A section may have options that
    choose something else altogether (`CHOSEN_BY`); with one of them, or a section given as a whole, the
    class's defaults are right.
    """
    for field in dataclasses.fields(config):
        option = f"{prefix}{field.name}"
        if any(other.startswith(f"{option}.") for other in given):
            section = _usual(field) if isinstance(config, type) else getattr(config, field.name)
            choosing = {option, *(f"{option}.{chooser}" for chooser in getattr(section, "CHOSEN_BY", ()))}
            if dataclasses.is_dataclass(section) and choosing.isdisjoint(given):
                yield from _kept_defaults(section, given, f"{option}.")
        elif prefix and option not in given and (value := getattr(config, field.name)) != _usual(field):
            yield f"--{option}={json.dumps(draccus.encode(value))}"


def _usual(field: "dataclasses.Field[Any]") -> Any:
    """What draccus takes for a field that is not given; None where that alone would be a mistake."""
    if field.default_factory is dataclasses.MISSING:
        return field.default
    try:
        return field.default_factory()
    except ValueError:
        return None


def _option_names(arguments: Sequence[str]) -> list[str]:
    return [argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--")]


def _leaves(options: set[str]) -> set[str]:
    """Options that hold a value; draccus also offers `--section` for each section."""
    return {name for name in options if not any(other.startswith(f"{name}.") for other in options)}


def _yaml_keys(arguments: Sequence[str], leaves: set[str]) -> list[str]:
    """Dotted keys of the file named on the command line; the inside of a dict-valued field is not a key."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument(f"--{CONFIG_ARG}", type=Path)
    path = getattr(finder.parse_known_args(arguments)[0], CONFIG_ARG)
    if path is None:
        return []
    with path.open(encoding="utf-8") as stream:
        content = load_config(stream, file=path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} should hold `key: value` pairs, it holds {type(content).__name__}")
    return list(_flatten(content, leaves, ""))


def _flatten(section: Mapping[str, Any], leaves: set[str], prefix: str) -> Iterable[str]:
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in leaves:
            yield from _flatten(value, leaves, f"{name}.")
        else:
            yield name


def _explain(error: Exception) -> str:
    """The message closest to the mistake: draccus wraps a dataclass's own ValueError in a vague one."""
    vague = isinstance(error, ParsingError) and not isinstance(error, DecodingError)
    if vague and isinstance(error.__cause__, Exception):
        return _explain(error.__cause__)
    return str(error).strip()
