"""Runs an episode in LIBERO's own `OffScreenRenderEnv` and saves what it returned; for subprocesses.

Usage: plain_libero.py SUITE TASK_ID TRIAL SEED INPUT.npz OUTPUT.npz, where the input has `actions` (T, 7) and
may have `knob_step`, the step before which the stove's knob is turned on by hand. Only the folder of assets
and the robot's visuals (with the stand-in kit) are chosen here; the rest is as in LIBERO's evaluation.
"""

import sys

import numpy as np
from vega_policy.envs.libero.assets import assets_lent, resolve_assets
from vega_policy.envs.libero.installation import import_libero, quiet
from vega_policy.envs.libero.rendering import prepare_gl
from vega_policy.envs.libero.standins.robot import lowpoly_xml
from vega_policy.envs.libero.tasks import find_task, load_init_states

KNOB, KNOB_ON_RAD = "flat_stove_1_button", 1.5


def main(suite: str, task_id: str, trial: str, seed: str, source: str, target: str) -> None:
    given = np.load(source)
    task, assets = find_task(suite, int(task_id)), resolve_assets("auto")
    prepare_gl()
    off_screen = import_libero("libero.libero.envs").OffScreenRenderEnv
    with assets_lent(assets), quiet():
        env = off_screen(bddl_file_name=str(task.bddl_file), camera_heights=256, camera_widths=256)
        if assets.kind == "standin":
            env.env.set_xml_processor(lowpoly_xml)
        env.seed(int(seed))
        env.reset()
    env.set_init_state(load_init_states(task)[int(trial)])
    rows = []

    def perform(action: np.ndarray) -> None:
        observation, _, done, _ = env.step(action)
        images = observation["agentview_image"], observation["robot0_eye_in_hand_image"]
        rows.append((env.get_sim_state(), *images, observation["robot0_eef_pos"], done))

    for _ in range(10):
        perform([0, 0, 0, 0, 0, 0, -1])
    for step, action in enumerate(given["actions"]):
        if step == given.get("knob_step", -1):
            env.sim.data.set_joint_qpos(KNOB, KNOB_ON_RAD)
        perform(action)
    names = ("state", "image", "image2", "eef_pos", "done")
    columns = zip(*rows[9:], strict=True)
    np.savez(target, **{name: np.stack(column) for name, column in zip(names, columns, strict=True)})


if __name__ == "__main__":
    main(*sys.argv[1:])
