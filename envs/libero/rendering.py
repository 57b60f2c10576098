"""Exact pictures, drawn only when somebody looks at them.

LIBERO draws its cameras inside a control step, at the physics step where its observables sample, and
rendering takes over 90% of the step. Drawing later from the final state gives other pixels. So what is kept
at the sampling moment is a copy of MuJoCo's data (cheap), and a picture drawn from that copy at any later
time equals LIBERO's byte for byte.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

Image = UInt8[NDArray[np.uint8], "height_px width_px 3"]

GL_VARIABLE = "MUJOCO_GL"
CUDA_VARIABLE, EGL_VARIABLE = "CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID"
GL_DEVICES = ("nvidia[0-9]*", "dri/renderD*")


def choose_gl_backend() -> str:
    """The off-screen GL backend to use: the user's `MUJOCO_GL`, else EGL on a GPU, else OSMesa.

    Where `CUDA_VISIBLE_DEVICES` hides every GPU that is OSMesa, too.
    """
    chosen = os.environ.get(GL_VARIABLE, "").strip().lower()
    if chosen:
        return chosen
    hidden = os.environ.get(CUDA_VARIABLE, "0").strip() in ("", "-1")
    has_gpu = any(any(Path("/dev").glob(pattern)) for pattern in GL_DEVICES)
    return "egl" if has_gpu and not hidden else "osmesa"


def prepare_gl() -> str:
    """Settle the GL backend before robosuite is first imported, which reads it once and for all.

    robosuite overrides an unset `MUJOCO_GL` with EGL whether there is a GPU or not, so it is set here.

    Returns:
        The backend in use.

    Raises:
        RuntimeError: If robosuite was imported earlier with another backend, or PyOpenGL with none, or it
            could not make out which GPU to draw with.
    """
    backend = choose_gl_backend()
    _check_egl_device(backend)
    if "robosuite" not in sys.modules:
        _check_pyopengl(backend)
        os.environ[GL_VARIABLE] = backend
        return backend
    from robosuite.utils import binding_utils

    loaded = binding_utils.GLContext.__module__.rsplit(".", 1)[-1].removesuffix("_context")
    if backend in ("egl", "osmesa") and loaded != backend:
        raise RuntimeError(
            f"robosuite was imported with the {loaded} backend, but {backend} is wanted here; "
            f"set {GL_VARIABLE}={backend} before the process first imports robosuite"
        )
    return loaded


def _check_egl_device(backend: str) -> None:
    """Refuse what robosuite would fail on at the first picture: a GPU that is named by its UUID."""
    visible = os.environ.get(EGL_VARIABLE, os.environ.get(CUDA_VARIABLE))
    if backend == "egl" and visible is not None and not all(part.isdigit() for part in visible.split(",")):
        raise RuntimeError(
            f"cannot draw with egl: robosuite expects numbers in {EGL_VARIABLE} or {CUDA_VARIABLE}, got "
            f"{visible!r}; name the GPU by its number, or set {GL_VARIABLE}=osmesa to draw on the CPU"
        )


def _check_pyopengl(backend: str) -> None:
    """PyOpenGL fixes its platform when first imported; a wrong one breaks every later context."""
    platform = sys.modules.get("OpenGL.platform")
    loaded = type(platform.PLATFORM).__name__.lower() if platform else backend
    if backend in ("egl", "osmesa") and backend not in loaded:
        raise RuntimeError(
            f"OpenGL was imported for {loaded}, so mujoco cannot render with {backend}; "
            f"set {GL_VARIABLE}={backend} before the process first imports mujoco or OpenGL"
        )


DRAWN_ARRAYS = (
    *("qpos", "xpos", "xquat", "xmat", "xipos", "ximat", "xanchor", "xaxis", "subtree_com"),
    *("geom_xpos", "geom_xmat", "site_xpos", "site_xmat"),
    *("cam_xpos", "cam_xmat", "light_xpos", "light_xdir"),
)
"""What MuJoCo draws a scene from. Copying all of MjData would reserve its arena (over 1 GB) each time, and
take 100 times as long."""


class Moment:
    """One moment of a simulation, kept for drawing.

    It plays the part of robosuite's simulation towards robosuite's render context, so that drawing goes
    through the same calls as LIBERO's own but reads the kept data and never touches the live simulation.
    """

    def __init__(self, sim: Any) -> None:
        import mujoco

        self.model = sim.model
        self.data = SimpleNamespace(_data=mujoco.MjData(sim.model._model))
        self._site_rgba = np.empty_like(sim.model.site_rgba)

    def take(self, sim: Any) -> None:
        """Keep the simulation as it is now."""
        for name in DRAWN_ARRAYS:
            getattr(self.data._data, name)[:] = getattr(sim.data._data, name)
        self._site_rgba[:] = sim.model.site_rgba

    @contextlib.contextmanager
    def site_colours(self) -> Iterator[None]:
        """Give the model's sites the colours of this moment; a stove's burner lights up after sampling."""
        live = self.model.site_rgba.copy()
        self.model.site_rgba[:] = self._site_rgba
        try:
            yield
        finally:
            self.model.site_rgba[:] = live

    def forward(self) -> None:
        """Asked for by a new render context; the kept data is complete already."""

    def add_render_context(self, context: Any) -> None:
        """Asked for by a new render context; `Cameras` keeps it."""


class Cameras:
    """Draws a scene's cameras from the moment that was captured last.

    A hard reset compiles a new model and needs new cameras. `close` them: the GL objects of a context must be
    deleted while it is the current one.
    """

    def __init__(self, sim: Any) -> None:
        """Prepare for one compiled model.

        Args:
            sim: robosuite's MjSim.
        """
        self._moment = Moment(sim)
        self._context: Any = None

    def capture(self, sim: Any) -> None:
        """Keep this moment for drawing."""
        self._moment.take(sim)

    def draw(self, camera: str, size_px: int) -> Image:
        """Draw one camera at the captured moment.

        Args:
            camera: The camera's name in the model.
            size_px: Height and width.

        Returns:
            The picture as LIBERO returns it, upside down: OpenGL's row 0 is at the bottom.
        """
        context, model = self._current_context(), self._moment.model
        with self._moment.site_colours():
            context.render(size_px, size_px, camera_id=model.camera_name2id(camera))
        picture: Image = context.read_pixels(size_px, size_px)
        return picture

    def close(self) -> None:
        """Free the GL context."""
        if self._context is not None:
            self._context.gl_ctx.make_current()
            self._context = None

    def __del__(self) -> None:
        self.close()

    def _current_context(self) -> Any:
        """The GL context, made current: several environments in one process each have their own."""
        if self._context is None:
            from robosuite.utils.binding_utils import MjRenderContextOffscreen

            self._context = MjRenderContextOffscreen(self._moment, device_id=-1)
            self._context.vopt.geomgroup[0] = 0  # no collision geometry, as LIBERO's OffScreenRenderEnv
            self._context.vopt.geomgroup[1] = 1
        else:
            self._context.gl_ctx.make_current()
        return self._context
