"""LIBERO behind gymnasium: the only package that knows LIBERO, robosuite and MuJoCo."""
