"""`vega-robot` against an arm in another process: what it refuses, prints, records, and how it ends."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kinematic_arm import KinematicDriver, arm_process, connected

from vega_policy.cli.parsing import parse
from vega_policy.cli.recordings import main as recordings_main
from vega_policy.cli.robot import RobotRunConfig, main
from vega_policy.cli.robot_arms import connect, load_arm, load_object
from vega_policy.cli.robot_parts import policy_source
from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.observing import Observer
from vega_policy.runtime.recordings import read_robot_recording
from vega_policy.runtime.robots.panda import Panda
from vega_policy.runtime.specs import SpecMismatchError

ROOT = Path(__file__).resolve().parents[2]
HOLD = "--policy.type=hold"
SPEED = 0.5  # of the clocks, so that a busy machine does not make ticks late
NO_FAULTS = ["--yes", "--sim.speed=0.5", "--robot.arm=tests/runtime/patient_arm.yaml"]


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with arm_process(SPEED) as (_, uri):
        yield uri


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([HOLD, "--robot.typ=panda"], "did you mean --robot.type?"),
        ([HOLD, "--robot.type=sim_am"], "did you mean sim_arm?"),
        ([HOLD, "--server=ws://there"], "expected one of --policy.path=DIR"),
        ([], "expected one of --policy.path=DIR"),
        ([HOLD, "--robot.type=panda"], "expected --robot.driver"),
        ([HOLD, "--robot.arm=nowhere"], "one of panda, sim_arm, got nowhere"),
        ([HOLD, "--playback.rule=rtcc"], "did you mean 'rtc'?"),
        ([HOLD, "--robot.type=panda", "--robot.driver=a:b", "--sim.speed=2"], "expected --sim.speed=1"),
        ([HOLD, "--robot.type=panda", "--robot.driver=nowhere:make"], "nowhere"),
        ([HOLD, "--robot.address=ws://127.0.0.1:9"], "refused"),
        ([HOLD, "--duration_s=0"], "expected --duration_s > 0"),
        ([HOLD, "--dry_run", "--record=somewhere"], "expected either --dry_run or --record"),
        ([HOLD, "--robot.address=nowhere"], "expected an arm's address such as ws://"),
        (["--server=nowhere", "--robot.address={uri}", "--sim.speed=0.5"], "expected a server such as ws://"),
        ([HOLD, "--robot.address={uri}", "--sim.speed=1"], "expected --sim.speed=0.5"),
        ([HOLD, "--record=tests"], "expected a new folder or a dataset made of recordings"),
    ],
)
def test_a_mistake_ends_with_one_line(
    arguments: list[str], message: str, error_line: Callable[..., str], uri: str
) -> None:
    assert message in error_line(main, [argument.format(uri=uri) for argument in arguments])


def test_an_unknown_key_in_an_arms_description_is_named(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "robot" / "panda.yaml").read_text()
    (tmp_path / "arm.yaml").write_text(text.replace("max_step_m:", "max_stp_m:"))
    with pytest.raises(SystemExit):
        load_arm(str(tmp_path / "arm.yaml"))
    assert load_arm("panda").cameras == {"image": "front", "image2": "wrist"}


def test_nothing_moves_without_a_person_or_yes(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [HOLD, f"--robot.address={uri}", "--sim.speed=0.5"]
    assert main(arguments) == 2
    assert "expected a person at a terminal" in capsys.readouterr().err
    assert answer_of_a_person(arguments, "no\n") == 2


def answer_of_a_person(arguments: list[str], answer: str, typed_before: str = "") -> int:
    """The exit code of the program at a terminal at which somebody types."""
    parent, child = pty.openpty()
    os.write(parent, typed_before.encode())
    command = [sys.executable, "-m", "vega_policy.cli.robot", *arguments]
    with subprocess.Popen(command, stdin=child, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        prompt = ""
        while not prompt.endswith("Type go: "):
            prompt += (letter := process.stdout.read(1))
            assert letter, prompt
        os.write(parent, answer.encode())
        process.communicate(timeout=120)
    os.close(parent)
    os.close(child)
    assert "The arm is about to move" in prompt
    return process.returncode


def test_what_was_typed_before_the_question_is_no_answer(uri: str) -> None:
    arguments = [HOLD, f"--robot.address={uri}", "--sim.speed=0.5", "--duration_s=0.5"]
    assert answer_of_a_person(arguments, "no\n", typed_before="go\n") == 2


def test_a_terminal_that_is_closed_stops_the_arm(uri: str) -> None:
    arguments = [HOLD, f"--robot.address={uri}", *NO_FAULTS[1:], "--duration_s=600", "--dry_run"]
    command = [sys.executable, "-u", "-m", "vega_policy.cli.robot", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "would hold\n"
        process.send_signal(signal.SIGHUP)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "would stop\nended: interrupted" in output


def test_a_run_is_recorded_reported_and_added_to_the_dataset(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "deployed"
    arguments = [HOLD, f"--robot.address={uri}", *NO_FAULTS, "--duration_s=1.5", f"--record={record}"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    for line in ("ended: time is up", "rate error", "worst jitter", "task solved: no", "1 episodes"):
        assert line in output
    recording = read_robot_recording(tmp_path / "deployed.recordings" / "run00000")
    assert recording.facts["task"] == "pick up the bowl"
    assert len(recording.rows) >= 10
    assert recordings_main([f"--record={record}"]) == 0
    assert "1 episodes" in capsys.readouterr().out


def test_a_dry_run_prints_and_moves_nothing(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    with connected(uri, SPEED) as arm:
        before_m = arm.read().state.position_m
    assert main([HOLD, f"--robot.address={uri}", *NO_FAULTS[1:], "--duration_s=1", "--dry_run"]) == 0
    output = capsys.readouterr().out
    assert "would hold" in output
    assert "would move [0.00 0.00 0.00 0.00 0.00 0.00] mm, deg; fingers" in output
    with connected(uri, SPEED) as arm:
        np.testing.assert_allclose(arm.read().state.position_m, before_m, atol=1e-6)


def test_a_driver_is_found_by_its_name() -> None:
    assert load_object("vega_policy.cli.robot:main") is main
    with pytest.raises(ValueError, match="module:function"):
        load_object("vega_policy.cli.robot")
    with pytest.raises(ValueError, match=r"unknown function of .*robot 'mian'.*did you mean 'main'"):
        load_object("vega_policy.cli.robot:mian")


def test_an_arm_of_ones_own_holds_within_its_limits() -> None:
    config = parse(RobotRunConfig, [HOLD, "--robot.type=panda", "--robot.driver=kinematic_arm:connect"])
    arm = load_arm("panda")
    cautious = replace(arm, limits=replace(arm.limits, max_step_m=0.005))
    with ExitStack() as stack:
        robot, _ = connect(config, FakeClock(), cautious, stack)
    assert isinstance(robot, Panda)
    driver = robot._driver
    assert isinstance(driver, KinematicDriver)
    robot.hold()
    driver.position_m = driver.position_m + np.array([0.0, 0.1, 0.0])
    robot.hold()
    np.testing.assert_allclose(driver.moves[-1].translation_m, [0.0, -0.005, 0.0])


def test_help_is_immediate() -> None:
    program = (
        "import sys, contextlib\n"
        "from vega_policy.cli.robot import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "assert not {'torch', 'lerobot', 'mujoco', 'scipy', 'rerun'} & sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "--dry_run" in run.stdout


def test_a_policy_that_does_not_fit_the_arm_is_refused_before_anything_moves() -> None:
    one_camera = replace(load_arm("panda"), cameras={"image": "front"})
    policy = "--policy.path=configs/policy/vega_tiny.yaml"
    config = parse(RobotRunConfig, [policy, "--robot.type=panda", "--robot.driver=a:b"])
    observer = Observer(one_camera.cameras, one_camera.base_position_m, one_camera.image_size_px)
    with ExitStack() as stack, pytest.raises(SpecMismatchError, match=r"pixels/image2: .*the robot nothing"):
        policy_source(config, observer, one_camera, stack)
