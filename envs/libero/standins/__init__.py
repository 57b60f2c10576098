"""The stand-in kit: LIBERO's objects and arenas rebuilt from MuJoCo primitives, so that nothing is downloaded."""
