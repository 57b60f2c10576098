"""LIBERO's own environment, built so that an episode depends on nothing but (task, trial, seed).

The class that LIBERO registers for a problem is subclassed, never patched. The subclass draws nothing while
stepping (see rendering.py) and undoes what LIBERO carries over from one reset to the next.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vega_policy.envs.libero.assets import Assets, assets_lent
from vega_policy.envs.libero.installation import BUILD_LOCK, import_libero, quiet
from vega_policy.envs.libero.rendering import Cameras, Image, prepare_gl
from vega_policy.envs.libero.tasks import LiberoTask

if TYPE_CHECKING:
    from libero.libero.envs.bddl_base_domain import BDDLBaseDomain
else:
    BDDLBaseDomain = object

CONTROL_FREQUENCY_HZ = 20

GROWING_LISTS = ("object_property_initializers", "visualization_sites_list")


class RawEnv(BDDLBaseDomain):
    """What is added to LIBERO's problem classes; always mixed in before one of them.

    Attributes:
        assets: Where meshes and textures come from.
        cameras: Draws the moment LIBERO's observables last sampled; None without images.
    """

    def __init__(self, assets: Assets, images: bool, *args: Any, **kwargs: Any) -> None:
        self.assets = assets
        self.images = images
        self.cameras: Cameras | None = None
        super().__init__(*args, **kwargs)
        self._fresh_lengths = {name: len(getattr(self, name)) for name in GROWING_LISTS}

    def restart(self, seed: int, init_state: NDArray[np.float64] | None) -> Mapping[str, Any]:
        """Rebuild the scene with a seed and put everything that moves into an init state, if there is one.

        LIBERO re-places its fixtures (cabinet, stove, rack) with NumPy's global generator at every reset, and
        an init state does not restore them. So that generator is seeded before every reset, and put back.

        Args:
            seed: In [0, 2**32).
            init_state: Shape (1 + nq + nv,), as `tasks.load_init_states` returns them; None leaves everything
                where LIBERO's placement rules put it.

        Returns:
            LIBERO's observation.
        """
        with assets_lent(self.assets), quiet(), numpy_seeded(seed):
            self._forget_resets()
            self._reset_until_placed()
        if init_state is not None:
            self.sim.set_state_from_flattened(init_state)
        self.sim.forward()
        self._check_success()
        self._post_process()
        self._update_observables(force=True)
        observation: Mapping[str, Any] = self._get_observations()
        return observation

    def draw(self, camera: str, size_px: int) -> Image:
        """Draw a camera as LIBERO would have when its observables last sampled, upside down.

        Raises:
            ValueError: If the environment was built without images.
        """
        if self.cameras is None:
            raise ValueError("this environment was built without images; build it with images=True")
        return self.cameras.draw(camera, size_px)

    def close(self) -> None:
        """Free the simulation and the GL context."""
        self._close_cameras()
        super().close()

    def _forget_resets(self) -> None:
        """Shorten the lists that LIBERO's loader appends to at every reset and never empties.

        Each entry for a drawer or knob draws from the generator, so without this the fixtures' places would
        depend on how many resets came before.
        """
        for name, length in self._fresh_lengths.items():
            del getattr(self, name)[length:]

    def _reset_until_placed(self) -> None:
        """Reset; LIBERO's random placement of objects may find no room and is then tried again."""
        from robosuite.utils.errors import RandomizationError

        while True:
            with contextlib.suppress(RandomizationError):
                self.reset()
                return

    def _assert_problem_name(self) -> None:
        """LIBERO compares the class's name with the problem's, which a subclass cannot satisfy."""

    def _initialize_sim(self, xml_string: str | None = None) -> None:
        """With the stand-in kit, replace the robot's visuals before the model is compiled."""
        if self.assets.kind == "standin":
            from vega_policy.envs.libero.standins.robot import lowpoly_xml

            self.set_xml_processor(lowpoly_xml)
        super()._initialize_sim(xml_string)

    def _reset_internal(self) -> None:
        """Make up for the render context that LIBERO creates here, which calls `mj_forward` once.

        Without that call the constraint solver would start from another guess, and the states of some tasks
        would differ from LIBERO's in the last digits.
        """
        self.sim.forward()
        super()._reset_internal()

    def _setup_observables(self) -> Any:
        """Add an observable that keeps the moment in which LIBERO would draw its cameras."""
        observables = super()._setup_observables()
        if self.images:
            from robosuite.utils.observables import Observable

            self._close_cameras()
            self.cameras = Cameras(self.sim)
            observables["capture"] = Observable(
                "capture", sensor=self._capture, sampling_rate=CONTROL_FREQUENCY_HZ, active=False
            )
        return observables

    def _close_cameras(self) -> None:
        if self.cameras is not None:
            self.cameras.close()
            self.cameras = None

    def _capture(self, _: Mapping[str, Any]) -> float:
        """Read like a robosuite sensor; the picture itself is drawn later, if at all."""
        assert self.cameras is not None
        self.cameras.capture(self.sim)
        return 0.0

    _capture.__modality__ = "image"  # type: ignore[attr-defined]  # what robosuite's @sensor sets


def build_raw_env(task: LiberoTask, assets: Assets, images: bool = True) -> Any:
    """Build LIBERO's environment for a task, with the settings of its `OffScreenRenderEnv`.

    Args:
        task: What to build.
        assets: Where meshes and textures come from.
        images: Whether pictures may be asked for.

    Returns:
        An instance of LIBERO's problem class that is also a `RawEnv`; `restart` it before stepping.

    Raises:
        RuntimeError: If robosuite was imported with another GL backend than the one wanted.
    """
    prepare_gl()
    problem = _problem_class(task)
    from robosuite import load_controller_config

    with assets_lent(assets), quiet(), numpy_seeded(0):
        return problem(
            assets,
            images,
            str(task.bddl_file),
            robots=["Panda"],
            controller_configs=load_controller_config(default_controller="OSC_POSE"),
            gripper_types="default",
            initialization_noise=None,
            use_camera_obs=False,
            has_offscreen_renderer=False,
            control_freq=CONTROL_FREQUENCY_HZ,
        )


def _problem_class(task: LiberoTask) -> Any:
    """LIBERO's class for the task's problem, with `RawEnv` mixed in."""
    domains = import_libero("libero.libero.envs.bddl_base_domain")
    import_libero("libero.libero.envs.problems")
    bddl = import_libero("libero.libero.envs.bddl_utils")
    problem = domains.TASK_MAPPING[bddl.get_problem_info(str(task.bddl_file))["problem_name"]]
    return type(f"Raw{problem.__name__}", (RawEnv, problem), {})


@contextlib.contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, LIBERO's only source of randomness, for the time of the block."""
    with BUILD_LOCK:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
