"""Settings shared by all tests."""
import os
import random
import sys

import pytest
from hypothesis import HealthCheck, settings

import mxnetseg  # noqa: F401  (first, so that test files may import mxnet: see mxnetseg/_compat.py)
from mxnetseg._processor import has_bfloat16

# Set before anything imports mxnet. The arrays of the tests are small, and more threads would only wait for each other,
# above all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# no deadline: a busy machine must not make a test fail
settings.register_profile("mxnetseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mxnetseg")


def pytest_runtest_setup(item):
    if item.get_closest_marker("bfloat16") and not has_bfloat16():
        pytest.skip("this processor has no AVX-512")


@pytest.fixture(scope="session", autouse=True)
def mxnetseg_home(tmp_path_factory):
    """Replace ``~/.mxnetseg`` by a temporary folder, so that no test touches the user's home.

    The workers of xdist share the folder, so that the built-in sample is painted once.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mxnetseg-home"
    home.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MXNETSEG_HOME", str(home))
        patch.setenv("MXNET_HOME", str(home / "mxnet"))  # GluonCV's cache
        patch.setenv("WANDB_MODE", "disabled")
        for variable in ("MXNETSEG_DATA", "MXNETSEG_MIRROR", "MXNET_GLUON_REPO"):
            patch.delenv(variable, raising=False)
        yield home


@pytest.fixture(autouse=True)
def seeds():
    """Start every test from the same random state, whether it runs alone or with others."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "mxnet" in sys.modules:
        sys.modules["mxnet"].random.seed(0)
