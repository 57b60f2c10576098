"""The laws that an import graph can break: arrows point one way, and importing has no effect."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "vega_policy.envs": ROOT / "envs",
    "vega_policy.rollouts": ROOT / "rollouts",
    "vega_policy": ROOT / "vega_policy",
}
SIMULATORS = ("libero", "robosuite", "mujoco", "bddl")


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imported_names(file: Path, module: str) -> set[str]:
    """Absolute dotted names that a file imports anywhere; relative imports are resolved against `module`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], base]).rstrip(".")
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def module_name(file: Path) -> str:
    for name, folder in ROOMS.items():
        if file.is_relative_to(folder):
            return ".".join([name, *file.relative_to(folder).with_suffix("").parts])
    raise AssertionError(file)


def offences(files: list[Path], forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    def hits(name: str, prefixes: tuple[str, ...]) -> bool:
        return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)

    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in sorted(imported_names(file, module_name(file)))
        if hits(name, forbidden) and not hits(name, allowed)
    ]


def test_environments_know_no_policy() -> None:
    assert not offences(sources(ROOMS["vega_policy.envs"]), ("vega_policy",), allowed=("vega_policy.envs",))


def test_the_policy_knows_no_environment_and_no_harness() -> None:
    cli = ROOMS["vega_policy"] / "cli"
    files = [file for file in sources(ROOMS["vega_policy"]) if not file.is_relative_to(cli)]
    assert not offences(files, ("vega_policy.envs", "vega_policy.rollouts", "vega_policy.cli", *SIMULATORS))


def test_the_harness_knows_neither_libero_nor_vega() -> None:
    files = sources(ROOMS["vega_policy.rollouts"])
    assert not offences(files, ("vega_policy", *SIMULATORS), allowed=("vega_policy.rollouts",))


def test_an_import_of_a_room_by_its_bare_name_is_refused() -> None:
    for name in ("envs", "rollouts", "configs"):
        run = subprocess.run(
            [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert run.returncode != 0
        assert f"import vega_policy.{name}, not {name}" in run.stderr


def light_modules() -> list[str]:
    names = [
        module_name(file).removesuffix(".__init__") for folder in ROOMS.values() for file in sources(folder)
    ]
    return sorted(names)


IMPORT_EVERYTHING = """
import importlib, json, os, random, sys
sys.path[:0] = sys.argv[3:]
import diffusers, lerobot.policies, numpy, torch  # these set variables of their own when imported
def state():
    torch_state = torch.get_rng_state().sum().item()
    return dict(os.environ), random.getstate()[1], numpy.random.get_state()[1].tobytes(), torch_state
before = state()
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
assert before == state(), before[0].keys() ^ os.environ.keys()
assert not os.listdir(sys.argv[2]), os.listdir(sys.argv[2])
assert "libero" not in sys.modules, "an import of the package imported LIBERO"
"""


def test_importing_every_module_changes_nothing(tmp_path: Path) -> None:
    """Law 10: no prompt (stdin is closed), environment variable, folder or global random state."""
    import json

    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HOME": str(tmp_path / "hf"),
        "MUJOCO_GL": "osmesa",  # with which importing mujoco would set a variable
    }
    environment.pop("LIBERO_CONFIG_PATH", None)
    command = [sys.executable, "-c", IMPORT_EVERYTHING, json.dumps(light_modules()), str(home)]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


TIMEKEEPERS = {
    "vega_policy/runtime/clock.py": "the one clock of control loops, which are given it",
    "vega_policy/runtime/robots/lerobot_arm.py": "turns LeRobot's stamps into that clock's",
    "vega_policy/runtime/client.py": "waits before it connects anew",
    "vega_policy/runtime/batching.py": "measures a server's stages",
    "vega_policy/runtime/latency.py": "measures a server's stages",
    "vega_policy/cost.py": "measures latency",
    "envs/libero/throughput.py": "measures steps per second",
}


def test_nothing_in_a_control_path_reads_the_wall_clock() -> None:
    """Law 9: whoever needs the time is handed a clock; the others named here only measure, or wait."""
    rooms = (
        ROOMS["vega_policy.envs"],
        *(ROOMS["vega_policy"] / room for room in ("runtime", "heads", "simulators")),
    )
    files = [*(file for room in rooms for file in sources(room)), *ROOMS["vega_policy"].glob("*.py")]
    tell = {
        str(file.relative_to(ROOT))
        for file in files
        if {"time", "datetime"} & imported_names(file, module_name(file))
    }
    assert tell == set(TIMEKEEPERS)


GLOBAL_DRAWS = {
    "envs/libero/raw.py": "LIBERO draws from NumPy's; its state is put back",
    "vega_policy/runtime/acting.py": "policies of others draw from torch's; within a fork of it",
    "vega_policy/simulators/loading.py": "`seeded_init`, within a fork of torch's",
    "vega_policy/heads/base.py": "first weights, drawn where the builder has seeded",
    "vega_policy/heads/velocity.py": "first weights, likewise",
    "vega_policy/training/pretraining.py": "first weights, likewise",
    "vega_policy/modeling_vega.py": "the trainer owns torch's state, and saves it for resuming",
}


def dotted(node: ast.AST) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def draws_globally(call: ast.Call) -> bool:
    name = dotted(call.func)
    if name.startswith(("np.random.", "numpy.random.")):
        return name.rsplit(".", 1)[1] not in ("default_rng", "Generator", "SeedSequence")
    has_generator = any(keyword.arg == "generator" for keyword in call.keywords)
    return name == "torch.manual_seed" or (name.startswith("torch.rand") and not has_generator)


def test_no_other_code_touches_a_global_random_state() -> None:
    """Law 3: noise comes from generators that are passed in; the exceptions are named, with their reasons."""
    files = [file for folder in ROOMS.values() for file in sources(folder)]
    found = {
        str(file.relative_to(ROOT))
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and draws_globally(node)
    }
    assert found == set(GLOBAL_DRAWS)
    assert not offences(files, ("random",))


@pytest.mark.parametrize(
    "file",
    [file for folder in ROOMS.values() for file in sources(folder)],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_a_file_says_what_it_is_for_and_stays_short(file: Path) -> None:
    text = file.read_text()
    assert ast.get_docstring(ast.parse(text)), "the first lines say what the file is for"
    assert text.count("\n") <= 350, "one idea a file: split it"


def test_functions_fit_on_a_screen() -> None:
    lengths = [
        (node.end_lineno - node.lineno + 1, f"{file.relative_to(ROOT)}:{node.name}")
        for folder in ROOMS.values()
        for file in sources(folder)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    counts = sorted(length for length, _ in lengths)
    assert counts[len(counts) // 2] <= 10, "the median function has at most ten lines"
    assert not [name for length, name in lengths if length > 60]
