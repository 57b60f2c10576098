"""The live view gets every tick; a recording in memory stands in for the viewer."""

import rerun
from recorded import report

from vega_policy.runtime.live_view import LiveView


def test_pictures_positions_commands_and_faults_are_shown() -> None:
    sink = rerun.RecordingStream("test")
    memory = sink.memory_recording()
    view = LiveView(sink)
    for index in range(8):
        view.watch(report(index, is_held=index == 7))
    sink.flush()
    shown = memory.drain_as_bytes()
    for name in (b"cameras/front", b"measured/x_m", b"sent/gripper_width_m", b"guard"):
        assert name in shown, name
    assert len(shown) > 8 * 32 * 32 * 3, "each new picture is shown"
