"""Command lines and YAML files become configurations, or one helpful line and exit code 2."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vega_policy.cli.parsing import parse, refuse_unknown


@dataclass
class Camera:
    """A nested section."""

    width_px: int = 256  # image width
    tags: dict[str, int] = field(default_factory=dict)


@dataclass
class Config:
    """A made-up tool."""

    camera: Camera = field(default_factory=Camera)
    suite: str = "spatial"  # which suite
    task_ids: list[int] | None = None
    rate_hz: float = 20.0
    resume: bool = False

    def __post_init__(self) -> None:
        if self.rate_hz <= 0:
            raise ValueError(f"--rate_hz must be positive, got {self.rate_hz}")


def write(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text)
    return f"--config_path={path}"


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(Config, argv, prog="tool")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("tool: error: ") or message.startswith("usage: tool")
    assert "Traceback" not in message
    return message


def test_command_line_overrides_file_overrides_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "camera: {width_px: 128, tags: {left: 1}}\nsuite: object\ntask_ids: [3]\n")
    config = parse(
        Config, [file, "--suite=goal,object", "--task_ids=[0,1]", "--rate_hz=1e-1", "--resume=true"]
    )
    assert config == Config(Camera(128, {"left": 1}), "goal,object", [0, 1], 0.1, True)
    assert parse(Config, []) == Config()


@pytest.mark.parametrize(
    ("argv", "suggestion"),
    [
        (["--camera.widht_px=3"], "did you mean --camera.width_px?"),
        (["--task_id=[1]"], "did you mean --task_ids?"),
        (["--zzzzzzzzzz=1"], "known: "),
    ],
)
def test_unknown_option_names_the_nearest(
    capsys: pytest.CaptureFixture[str], argv: list[str], suggestion: str
) -> None:
    assert suggestion in failure(capsys, *argv)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("sute: goal", "unknown key in --config_path sute; did you mean suite?"),
        ("camera: {width: 3}", "unknown key in --config_path camera.width; did you mean camera.width_px?"),
        ("- 1", "should hold `key: value` pairs"),
    ],
)
def test_unknown_yaml_key_names_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, suggestion: str
) -> None:
    assert suggestion in failure(capsys, write(tmp_path, text))


@pytest.mark.parametrize(
    ("argument", "part"),
    [
        ("--camera.width_px=wide", "Couldn't parse 'wide' into an int"),
        ("--task_ids=0", "task_ids"),
        ("--rate_hz=-1", "--rate_hz must be positive, got -1.0"),
        ("--config_path=missing.yaml", "missing.yaml"),
        ("loose", "loose"),
    ],
)
def test_bad_values_say_what_was_wrong(capsys: pytest.CaptureFixture[str], argument: str, part: str) -> None:
    assert part in failure(capsys, argument)


def test_help_lists_options_with_their_comments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Config, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--camera.width_px" in text
    assert "image width" in text


def test_refuse_unknown_accepts_known_names() -> None:
    refuse_unknown(["a", "b"], {"a", "b", "c"}, "letter")
    with pytest.raises(ValueError, match=r"unknown suite libero_spatal; did you mean libero_spatial\?"):
        refuse_unknown(["libero_spatal"], ["libero_spatial", "libero_goal"], "suite")


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys, vega_policy.cli.parsing;"
        "print({'torch', 'mujoco', 'lerobot', 'libero', 'numpy'} & set(sys.modules) or 'light')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "light"
