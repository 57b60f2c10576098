"""Runs an episode in LIBERO's own `OffScreenRenderEnv` and saves what it returned; for subprocesses.

Usage: plain_libero.py SUITE TASK_ID TRIAL SEED INPUT.npz OUTPUT.npz, where the input has `actions` (T, 7) and
may have `knob_step`, the step before which the stove's knob is turned on by hand.
"""

import sys

import numpy as np

from vega_policy.envs.libero.assets import resolve_assets
from vega_policy.envs.libero.plain import PlainLibero
from vega_policy.envs.libero.tasks import find_task, load_init_states

KNOB, KNOB_ON_RAD = "flat_stove_1_button", 1.5


def main(suite: str, task_id: str, trial: str, seed: str, source: str, target: str) -> None:
    given, task = np.load(source), find_task(suite, int(task_id))
    plain = PlainLibero(task, resolve_assets("auto"))
    observation, done = plain.reset(int(seed), load_init_states(task)[int(trial)]), False
    rows = []
    for step in range(len(given["actions"]) + 1):
        images = observation["agentview_image"], observation["robot0_eye_in_hand_image"]
        rows.append((plain.env.get_sim_state(), *images, observation["robot0_eef_pos"], done))
        if step == given.get("knob_step", -1):
            plain.env.sim.data.set_joint_qpos(KNOB, KNOB_ON_RAD)
        if step < len(given["actions"]):
            observation, done = plain.step(given["actions"][step])
    names = ("state", "image", "image2", "eef_pos", "done")
    np.savez(
        target,
        **{name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
