"""Many photos overnight: a manifest that survives anything, and engines that share out the work.

`photos` finds what is to be done, `manifest` remembers what was, `run` gives tasks to an engine
until each photo is done or has failed for good. An engine (`local`, `on_ray`) is a number of
workers that build their work once (`making` loads the models) and take one photo after another.
"""
