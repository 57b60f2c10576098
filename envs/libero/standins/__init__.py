"""The stand-in kit: LIBERO's objects and arenas rebuilt from MuJoCo primitives; nothing is downloaded."""
