"""Settings shared by all tests."""
from hypothesis import HealthCheck, settings

import mxnetseg  # noqa: F401  (before any test imports mxnet, whose NumPy it prepares)

# Machines that do other work at the same time must not make a test fail: nothing here is timed.
settings.register_profile("mxnetseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mxnetseg")
