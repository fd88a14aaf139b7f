"""The one KFP decorator of the project; a profile's placement sets the real image of each step."""

import functools

from kfp import dsl

# The images carry the project's code and its dependencies, so nothing is installed in a pod.
step = functools.partial(dsl.component, base_image="python:3.11", install_kfp_package=False)
