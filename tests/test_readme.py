"""What README shows exists and runs: commands, files, and every block of Python."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[0][:60])
def test_a_python_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__readme__"})


def test_the_programs_named_in_the_pages_are_installed() -> None:
    installed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
    for page in PAGES:
        for program in re.findall(r"(?m)^(?:\.venv/bin/)?(vega-[a-z]+)", page.read_text()):
            assert program in installed, f"{page.name} runs {program}"


def test_the_make_targets_named_in_the_pages_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    for page in PAGES:
        for target in re.findall(r"(?m)(?:^|`)make ([a-z]+)", page.read_text()):
            assert target in targets, f"{page.name} runs make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_and_files_named_in_a_page_exist(page: Path) -> None:
    for name in re.findall(
        r"`((?:tests|docs|configs|envs|rollouts|vega_policy)/[\w./-]+)`", page.read_text()
    ):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    sources = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    for name in re.findall(r"`(test_\w+)`", page.read_text()):
        assert any(f"def {name}" in text or path.stem == name for path, text in sources.items()), name


def test_the_choices_of_a_policy_are_the_ones_listed() -> None:
    """Each list of names in the code is a column, or a sentence, of its section in docs/policy.md."""
    from vega_policy.backbones.config import FAMILIES
    from vega_policy.fusion_config import FUSIONS
    from vega_policy.heads.config import HEADS
    from vega_policy.simulators.config import CONTROLS, NAMES

    _, *sections = re.split(r"(?m)^## ", (ROOT / "docs" / "policy.md").read_text())
    simulator, fusion, backbone, head, _ = sections
    first_column = r"(?m)^\| `(\w+)` \|"
    heads = {"name", "control"}
    columns = [set(re.findall(first_column, section)) - heads for section in (simulator, fusion)]
    assert columns == [{*NAMES, *CONTROLS}, set(FUSIONS)]
    assert all(f"`{family}`" in backbone for family in FAMILIES)
    assert all(f"`{name}`:" in head for name in HEADS)
