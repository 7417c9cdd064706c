"""The import of mxnet: old names of NumPy, the choice of the GPU build, the number of threads."""
import ctypes
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from mxnetseg import _compat, _cuda
from mxnetseg._compat import BeforeMXNet, install_hook
from mxnetseg.errors import EnvironmentProblem


def python(code, *paths):
    """Run code in a new process that finds modules in ``paths`` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *sys.path])}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_mxnet_is_importable_and_computes():
    done = python("import mxnetseg, mxnet as mx; print(mx.nd.ones((2, 3)).sum().asscalar())")
    assert done.stdout.strip() == "6.0", done.stderr


@pytest.mark.parametrize("first", ["import mxnetseg, gluoncv", "import numpy, mxnetseg, mxnet",
                                   "import mxnetseg, importlib.util; importlib.util.find_spec('mxnet')"])
def test_the_old_names_of_numpy_are_back_once_mxnet_is_imported(first):
    done = python(f"{first}; import numpy as np; assert np.bool in (bool, np.bool_) and np.object is object")
    assert done.returncode == 0, done.stderr


def test_gluoncv_is_importable_beside_a_new_pytorch(tmp_path):
    (tmp_path / "torch.py").write_text("__version__ = '2.13.0'\n")
    done = python("import mxnetseg, gluoncv, torch; print(torch.__file__, gluoncv.model_zoo.get_resnet is not None)",
                  tmp_path)
    assert done.stdout.split() == [str(tmp_path / "torch.py"), "True"], done.stderr


@pytest.fixture
def bare():
    """NumPy without its old names, as a version 2 has it."""
    numpy = types.ModuleType("numpy")
    for name in ("bool_", "float64", "complex128", "all", "any", "prod", "cumprod", "vstack", "trapezoid", "round",
                 "nan", "inf", "isin", "sort", "asarray"):
        setattr(numpy, name, getattr(np, name, getattr(np, "trapz", None)))
    numpy.__version__ = "2.9.0"
    return numpy


def test_names_that_numpy_2_removed_compute_as_before(bare):
    _compat.restore_numpy_names(bare)
    assert bare.bool is bool and bare.float_ is np.float64 and bare.product is np.prod
    assert bare.PINF == bare.Infinity == -bare.NINF == np.inf and np.isnan(bare.NaN)
    assert bare.in1d([[1, 2], [3, 4]], [2, 3]).tolist() == [False, True, True, False]
    assert bare.msort([[3, 1], [2, 5]]).tolist() == [[2, 1], [3, 5]]
    assert bare.trapz([1, 2, 3]) == 4 and bare.alltrue([1, 1]) and not bare.sometrue([0, 0])
    with pytest.raises(AttributeError, match="numpy.mirr was removed"):
        bare.mirr()


def test_names_that_numpy_has_stay(bare):
    bare.in1d = bare.bool = "its own"
    _compat.restore_numpy_names(bare)
    assert bare.in1d == bare.bool == "its own"


def test_importing_mxnetseg_imports_nothing_heavy():
    done = python("import sys, mxnetseg\n"
                  "assert not {'numpy', 'mxnet', 'cv2', 'wandb', 'torch'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr


def test_numpy_3_is_refused_with_the_fix_when_mxnet_is_imported(tmp_path):
    (tmp_path / "numpy.py").write_text("__version__ = '3.0.1'")
    done = python("import mxnetseg; print('still here'); import mxnet", tmp_path)
    assert done.stdout == "still here\n" and done.returncode == 1
    assert "EnvironmentProblem" in done.stderr and "pip install 'numpy<3'" in done.stderr


def test_the_hook_is_installed_once():
    install_hook()
    assert sum(isinstance(finder, BeforeMXNet) for finder in sys.meta_path) == 1


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages that holds the GPU build and one CUDA library, and no real driver."""
    folder = tmp_path / "site"
    info = folder / "mxnetseg_cu112-1.9.1.dist-info"
    (folder / "mxnetseg_cu112" / "mxnet").mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mxnetseg-cu112\nVersion: 1.9.1\n")
    (folder / "nvidia" / "cudnn" / "lib").mkdir(parents=True)
    (folder / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8").touch()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


@pytest.fixture
def loaded(monkeypatch):
    """Record the libraries that are loaded. Only the driver and files in a folder ``nvidia`` can be loaded."""
    tried = []

    def can_load(library):
        tried.append(library)
        return library == _cuda.DRIVER or "nvidia" in library
    monkeypatch.setattr(_cuda, "can_load", can_load)
    return tried


def test_with_a_driver_the_gpu_build_comes_first(site, loaded, caplog):
    _cuda.use_gpu_build()
    _cuda.use_gpu_build()
    assert sys.path[0] == str(site / "mxnetseg_cu112") and sys.path.count(sys.path[0]) == 1
    assert str(site / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8") in loaded
    assert "libnccl.so.2" in caplog.text and "libcudnn.so.8 " not in caplog.text


def test_without_a_driver_the_cpu_build_stays(site, monkeypatch):
    monkeypatch.setattr(_cuda, "can_load", lambda library: False)
    before = list(sys.path)
    _cuda.use_gpu_build()
    assert sys.path == before


def test_without_the_gpu_build_the_driver_is_not_loaded(loaded, monkeypatch):
    monkeypatch.setattr(_cuda, "has_distribution", lambda name: False)
    before = list(sys.path)
    _cuda.use_gpu_build()
    assert sys.path == before and loaded == []


def test_missing_cuda_libraries(site, loaded):
    assert set(_cuda.missing_cuda_libraries()) == set(_cuda.CUDA_LIBRARIES) - {"libcudnn.so.8"}


class Driver:
    """Stand-in for NVIDIA's driver library on a machine with one GPU."""

    def __init__(self, capability=(9, 0), starts=True):
        self._attributes, self._starts = dict(zip((75, 76), capability)), starts

    def cuInit(self, flags):
        return 0 if self._starts else 999

    def cuDeviceGet(self, device, index):
        device._obj.value = 40 + index
        return 0 if index == 0 else 101

    def cuDeviceGetAttribute(self, value, attribute, device):
        assert device.value == 40
        value._obj.value = self._attributes[attribute]
        return 0

    def cuDeviceGetUuid(self, uuid, device):
        uuid.raw = bytes([device.value] * 16)
        return 0


def test_compute_capability_and_uuid_of_a_gpu(monkeypatch):
    for index, driver, expected in ((0, Driver(), (9, 0)), (1, Driver(), None), (0, Driver(starts=False), None),
                                    (0, object(), None)):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, driver=driver: driver)
        assert _cuda.compute_capability(index) == expected
        assert _cuda.gpu_uuid(index) == (b"(" * 16 if expected else None)
    monkeypatch.undo()
    assert _cuda.compute_capability(99) is _cuda.gpu_uuid(99) is None  # no driver, or no such GPU


def test_the_uuid_of_an_instance_is_preferred(monkeypatch):
    driver = Driver()
    driver.cuDeviceGetUuid_v2 = lambda uuid, device: setattr(uuid, "raw", b"instance" * 2) or 0
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert _cuda.gpu_uuid(0) == b"instance" * 2


@pytest.mark.parametrize("capability, fits", [((3, 7), False), ((5, 2), True), ((7, 5), True), ((8, 9), True),
                                              ((9, 0), False), ((12, 0), False), (None, True)])
def test_gpu_generations_that_the_gpu_build_supports(capability, fits):
    assert _cuda.computes_on(capability) == fits


def test_an_optional_module_that_is_missing():
    assert _compat.import_optional("json.decoder", "this", fix="") is sys.modules["json.decoder"]
    with pytest.raises(EnvironmentProblem, match="^a report needs nowhere, which is not installed") as error:
        _compat.import_optional("nowhere.inside", "a report", where="--out", fix="pip install 'mxnetseg[report]'")
    assert error.value.where == "--out" and error.value.fix == "pip install 'mxnetseg[report]'"


def test_a_library_that_can_be_loaded(tmp_path):
    (tmp_path / "libempty.so").touch()
    assert not _cuda.can_load(str(tmp_path / "libempty.so")) and not _cuda.can_load("libnowhere.so.1")
    assert _cuda.can_load("libc.so.6")


def test_hyper_threads_of_one_core_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    for processor, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        topology = tmp_path / f"cpu{processor}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    assert _compat.count_cores(tmp_path) == 2
    assert _compat.count_cores(tmp_path / "no description") == 4


@pytest.mark.parametrize("wanted, found", [(None, str(_compat.count_cores())), ("7", "7")])
def test_mxnet_uses_all_cores_unless_the_user_sets_a_number(monkeypatch, wanted, found):
    monkeypatch.delenv("OMP_NUM_THREADS")
    if wanted:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    done = python("import mxnetseg, mxnet, os; print(os.environ['OMP_NUM_THREADS'])")
    assert done.stdout.strip() == found, done.stderr
