"""Settings shared by all tests."""
import ctypes
import gc
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import mxnetseg  # noqa: F401  (first, so that test files may import mxnet: see mxnetseg/_compat.py)
from mxnetseg._processor import has_bfloat16

# Set before anything imports mxnet. The arrays of the tests are small, and more threads would only wait for each other,
# above all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: a busy machine must not make a test fail. `make test` draws the same examples each time, so that a change
# is not blamed for what it did not do; `make test-all` draws new ones.
for _profile in ("same", "new"):
    settings.register_profile(_profile, deadline=None, suppress_health_check=[HealthCheck.too_slow],
                              derandomize=_profile == "same")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


_resident = 0  # bytes that this process held after the last release of memory
_GROWTH = 2 ** 29  # bytes of growth that lead to a release
_STATUS = Path("/proc/self/statm")  # only Linux has it, and only the C library of Linux keeps so much


def pytest_runtest_logfinish():
    """Return freed memory to the system, which the C library keeps otherwise: several GB after tests of networks.

    Networks are freed only by the garbage collector, because blocks and parameters refer to each other.
    """
    global _resident
    if "mxnet" in sys.modules and _STATUS.exists() and _bytes_held() > _resident + _GROWTH:
        gc.collect()
        sys.modules["mxnet"].nd.waitall()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
        _resident = _bytes_held()


def _bytes_held():
    return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


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
