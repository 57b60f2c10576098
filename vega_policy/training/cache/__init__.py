"""What training reads instead of films and frozen models: pictures decoded once, features computed once.

`store` keeps one array on disk, block by block, each with a checksum. `contents` says what fills it and under
which key. `dataset` puts a LeRobot dataset and its cached arrays together.
"""
