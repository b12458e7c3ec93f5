"""The Python API: the commands as functions, for scripts and notebooks.

`engine` exports all of it. Each function takes the options of its command under the same names and
raises the same refusals, see `engine.errors`. TensorFlow is imported when it is needed.
"""
