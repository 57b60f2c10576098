"""What training reads instead of films and frozen models: pictures decoded once, features computed once.

`store` keeps one array on disk, block by block; `blocks` has what is on record of each, and finds those that
another array has already. `contents` says what fills an array and under which key. `dataset` puts a LeRobot
dataset and its cached arrays together.
"""
