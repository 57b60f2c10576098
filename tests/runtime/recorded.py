"""A recorder with made-up ticks; light, so that processes which are to die start quickly."""

import os
import resource
from pathlib import Path

import numpy as np
from fake_arm import PANDA, command, state

from vega_policy.runtime.chunks import PlayedRow
from vega_policy.runtime.faults import Fault, FaultKind, SafeAction
from vega_policy.runtime.loop import TickReport
from vega_policy.runtime.observing import Observer
from vega_policy.runtime.recording import Recorder, RecordingError
from vega_policy.runtime.robots.base import Frame, Reading
from vega_policy.runtime.safety import Decision, Intervention, Memory

OBSERVER = Observer({"image": "front", "image2": "wrist"}, (0.0, 0.0, 0.0), 32)


def report(index: int, *, is_held: bool = False, size_px: int = 32) -> TickReport:
    now_s = 100 + index / 20
    noise = np.random.default_rng(index).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    grey = np.full((size_px, size_px, 3), 5 * index % 256, np.uint8)
    reading = Reading(state(now_s - 0.01), {"front": Frame(grey, now_s - 0.02), "wrist": Frame(noise, now_s)})
    sent = None if is_held else command(0.025, width_m=0.0)
    fault = Fault(FaultKind.FRAME_STALE, now_s, 0.3, 0.25)
    decision = Decision(
        sent,
        SafeAction.HOLD if is_held else None,
        (Intervention("workspace", 0.05, 0.025),),
        (fault,) if is_held else (),
        Memory(),
    )
    return TickReport(now_s, reading, PlayedRow(np.full(7, 0.25), now_s - 0.1), decision, sent)


def record(folder: Path, num_ticks: int, size_px: int = 32) -> Recorder:
    observer = Observer(OBSERVER.cameras, OBSERVER.base_position_m, size_px)
    recorder = Recorder(folder, observer, PANDA.actions, 20.0, {"task": "pick up the bowl"})
    for index in range(num_ticks):
        recorder.watch(report(index, is_held=index >= 6, size_px=size_px))
    return recorder


def fill(folder: Path) -> None:
    """Records until the disk is full, which the size limit of files stands for."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 60_000
    recorder = record(folder, 0, size_px=64)
    try:
        for index in range(100_000):
            recorder.watch(report(index, size_px=64))
            while recorder._ticks.qsize() > 50 and recorder._thread.is_alive():
                os.sched_yield()
    except RecordingError as error:
        print(f"let go: {error}")
    recorder.close()
