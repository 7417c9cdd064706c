"""``mxnetseg doctor`` reports each problem once, with the command that fixes it."""
import copy
import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

from mxnetseg._cuda import CUDA_LIBRARIES
from mxnetseg.tools import _installed, doctor
from mxnetseg.tools._installed import Conflict, find_conflicts
from mxnetseg.tools.doctor import Machine, Trial, diagnose, report, try_import
from mxnetseg.tools.main import main

HEALTHY = Machine(
    python=(3, 11, 7), executable="/usr/bin/python3", platform="Linux", cores=2, memory_gib=16.0, shm_gib=8.0,
    cpu_flags=["avx2"],
    versions={"numpy": "1.26.4", "mxnetseg-mxnet": "1.9.1", "gluoncv": "0.10.5.post0", "opencv-python": "4.11.0.86",
              "Pillow": "11.3.0", "PyYAML": "6.0.2", "tqdm": "4.67.1", "matplotlib": "3.9.4",
              "setuptools": "80.9.0"},
    trials={"numpy": Trial(True), "mxnet": Trial(True, {"gpus": 0, "cuda": False, "onednn": True}),
            "gluoncv": Trial(True), "cv2": Trial(True)},
    driver=False, missing_cuda=[], libmxnet=None,
)


@pytest.fixture
def machine():
    return copy.deepcopy(HEALTHY)


def failed(error):
    return Trial(False, error=error)


def test_a_healthy_machine_has_no_findings(machine):
    assert diagnose(machine) == []
    assert report(machine, []).endswith("everything that mxnetseg needs is installed")


@pytest.mark.parametrize("python, fits", [((3, 8, 18), False), ((3, 9, 0), True), ((3, 13, 9), True),
                                          ((3, 14, 0), False)])
def test_python(machine, python, fits):
    machine.python = python
    assert bool(diagnose(machine)) != fits


def test_numpy_3_is_one_problem_even_if_other_imports_fail_through_it(machine):
    machine.versions["numpy"] = "3.1.0"
    for module in ("mxnet", "gluoncv"):
        machine.trials[module] = failed("AttributeError: module 'numpy' has no attribute 'PZERO'")
    [finding] = diagnose(machine)
    assert finding.needed and finding.fix == "pip install 'numpy<3'"


def test_numpy_2_is_fine(machine):
    machine.versions["numpy"] = "2.4.6"
    assert diagnose(machine) == []


def test_numpy_2_with_the_wheel_of_mxnet_that_requires_numpy_1(machine):
    del machine.versions["mxnetseg-mxnet"]
    machine.versions["mxnet"] = "1.9.1"
    machine.conflicts = [Conflict("mxnet", "1.9.1", "numpy<2.0.0,>1.16.0", "numpy 2.4.6")]
    assert diagnose(machine) == []
    machine.versions["numpy"] = "2.4.6"
    [finding] = diagnose(machine)
    assert not finding.needed and "requires numpy<2" in finding.what
    assert finding.fix.startswith("pip uninstall -y mxnet && pip install ") and "wheels/mxnet" in finding.fix


def test_two_distributions_of_mxnet_with_the_same_files(machine):
    machine.versions["mxnet"] = "1.9.1"
    [finding] = diagnose(machine)
    assert not finding.needed and "same files" in finding.what
    assert finding.fix.startswith("pip uninstall -y mxnetseg-mxnet mxnet && pip install ")


@pytest.mark.parametrize("numpy, opencv, fix", [
    ("1.26.4", "4.12.0.88", "pip install 'opencv-python>=4.5,<4.12'"),
    ("2.4.6", "4.9.0.80", "pip install 'opencv-python>=4.10,<4.12'"),
    ("2.4.6", "4.12.0.88", None), ("2.4.6", "4.11.0.86", None), ("1.26.4", "4.5.5.64", None)])
def test_opencv_and_numpy_that_do_not_go_together(machine, numpy, opencv, fix):
    machine.versions.update({"numpy": numpy, "opencv-python": opencv})
    assert [finding.fix for finding in diagnose(machine)] == ([fix] if fix else [])


@pytest.mark.parametrize("module, error, fix", [
    ("cv2", "ImportError: numpy.core.multiarray failed to import", "pip install 'opencv-python>=4.10,<4.12'"),
    ("gluoncv", "ValueError: numpy.dtype size changed, may indicate binary incompatibility.",
     "pip install --force-reinstall --upgrade scipy pandas matplotlib numpy==2.4.6")])
def test_a_module_built_for_another_numpy(machine, module, error, fix):
    machine.versions["numpy"] = "2.4.6"
    machine.trials[module] = failed(error)
    [finding] = diagnose(machine)
    assert finding.needed and "another NumPy than 2.4.6" in finding.what and finding.fix == fix


def test_conflicts_of_other_packages_are_noted(machine):
    machine.conflicts = [Conflict("scipy", "1.13.1", "numpy<2.3,>=1.22.4", "numpy 2.4.6"),
                         Conflict("mxnetseg", "0.1.0", "tqdm>=4.60", "tqdm 4.1"),
                         Conflict("unrelated", "1.0", "other>2", "other 1")]
    first, second = diagnose(machine)
    assert not first.needed and "scipy 1.13.1 requires numpy<2.3,>=1.22.4, and numpy 2.4.6" in first.what
    assert first.fix.startswith("pip install --upgrade scipy\n") and second.fix == "pip install 'tqdm>=4.60'"


def test_mxnet_comes_from_the_checkout_or_from_the_index(tmp_path, monkeypatch):
    assert doctor.install_command("mxnetseg-mxnet").endswith("wheels/mxnet")
    monkeypatch.setattr(_installed, "__file__", str(tmp_path / "site-packages/mxnetseg/tools/_installed.py"))
    assert doctor.install_command("mxnetseg-mxnet") == "pip install mxnetseg-mxnet==1.9.1"


def test_pip_reports_conflicts(monkeypatch):
    text = ("mxnet 1.9.1 has requirement numpy<2.0.0,>1.16.0, but you have numpy 2.4.6.\n"
            "mxnetseg 0.1.0 requires mxnetseg-mxnet, which is not installed.\n")
    monkeypatch.setattr(_installed.subprocess, "run", lambda *args, **options: subprocess.CompletedProcess([], 1, text))
    assert find_conflicts() == [Conflict("mxnet", "1.9.1", "numpy<2.0.0,>1.16.0", "numpy 2.4.6")]


@pytest.mark.parametrize("name", ["numpy", "mxnetseg-mxnet", "gluoncv", "Pillow", "PyYAML", "tqdm", "matplotlib"])
def test_missing_package(machine, name):
    del machine.versions[name]
    module = doctor.NEEDED[name][0]
    if module in machine.trials:
        machine.trials[module] = failed(f"ModuleNotFoundError: No module named '{module}'")
    [finding] = diagnose(machine)
    assert finding.needed and name in finding.what and finding.fix.startswith("pip install ")


def test_setuptools_is_needed_on_python_3_12_and_later(machine):
    del machine.versions["setuptools"]
    assert diagnose(machine) == []
    machine.python = (3, 12, 1)
    machine.trials["mxnet"] = failed("ModuleNotFoundError: No module named 'distutils'")
    [finding] = diagnose(machine)
    assert finding.fix == "pip install setuptools"


def test_no_opencv(machine):
    del machine.versions["opencv-python"]
    machine.trials["cv2"] = failed("ModuleNotFoundError: No module named 'cv2'")
    [finding] = diagnose(machine)
    assert finding.fix == "pip install 'opencv-python>=4.5,<4.12'"


def test_headless_opencv_is_enough(machine):
    machine.versions["opencv-python-headless"] = machine.versions.pop("opencv-python")
    assert diagnose(machine) == []


def test_two_opencv_wheels_give_a_note(machine):
    machine.versions["opencv-python-headless"] = "4.11.0.86"
    [finding] = diagnose(machine)
    assert not finding.needed
    assert finding.fix.startswith("pip uninstall -y opencv-python opencv-python-headless && pip install ")


@pytest.mark.parametrize("module, library, words", [
    ("cv2", "libGL.so.1", "opencv-python-headless"),
    ("cv2", "libgthread-2.0.so.0", "opencv-python-headless"),
    ("mxnet", "libgomp.so.1", "apt-get install libgomp1"),
    ("mxnet", "libquadmath.so.0", "apt-get install libquadmath0"),
    ("mxnet", "libcuda.so.1", "driver"),
    ("mxnet", "libcudnn.so.8", "pip install 'nvidia-cudnn-cu11>=8.1,<9'"),
    ("mxnet", "libcudart.so.11.0", "pip install 'nvidia-cuda-runtime-cu11>=11.2'"),
])
def test_a_missing_library_is_reported_with_its_package(machine, module, library, words):
    error = f"{library}: cannot open shared object file: No such file or directory"
    machine.trials[module] = failed(f"OSError: {error}")
    machine.trials["gluoncv"] = failed(f"OSError: {error}")  # GluonCV imports both and fails with them
    [finding] = diagnose(machine)
    assert finding.needed and library in finding.what and words in finding.fix


def test_a_module_that_crashes_is_reinstalled(machine):
    machine.trials["cv2"] = failed("the import crashed Python with signal 11")
    [finding] = diagnose(machine)
    assert finding.fix == "pip install --force-reinstall --no-deps 'opencv-python>=4.5,<4.12'"


def test_a_missing_dependency_of_a_package(machine):
    machine.trials["gluoncv"] = failed("ModuleNotFoundError: No module named 'yacs.config'")
    [finding] = diagnose(machine)
    assert finding.fix == "pip install yacs"


def test_driver_without_gpu_build(machine):
    machine.driver = True
    [finding] = diagnose(machine)
    assert not finding.needed and "'.[cu112]'" in finding.fix


def test_gpu_build_without_driver_runs_on_the_cpu(machine):
    machine.versions["mxnetseg-cu112"] = "1.9.1"
    [finding] = diagnose(machine)
    assert not finding.needed and "libcuda.so.1" in finding.what


def test_missing_cuda_libraries_are_one_pip_command(machine):
    machine.driver, machine.versions["mxnetseg-cu112"] = True, "1.9.1"
    machine.missing_cuda = ["libcublas.so.11", "libcublasLt.so.11", "libnccl.so.2"]
    machine.trials["mxnet"].facts["gpus"] = 1
    [finding] = diagnose(machine)
    assert finding.fix == "pip install nvidia-cublas-cu11 nvidia-nccl-cu11"


def test_a_driver_with_which_mxnet_finds_no_gpu(machine):
    machine.driver, machine.versions["mxnetseg-cu112"] = True, "1.9.1"
    [finding] = diagnose(machine)
    assert "nvidia-smi" in finding.fix and not finding.needed


def test_a_gpu_that_is_too_new(machine):
    machine.driver, machine.versions["mxnetseg-cu112"] = True, "1.9.1"
    machine.trials["mxnet"].facts.update(gpus=3, capabilities=[[8, 9], [9, 0], None])
    [finding] = diagnose(machine)
    assert "GPU 1" in finding.what and "9.0" in finding.what and "--ctx cpu" in finding.fix and not finding.needed


def test_two_builds_in_one_folder(machine):
    machine.versions["mxnet-cu112"], machine.libmxnet, machine.driver = "1.9.1", "cpu", True
    machine.trials["mxnet"].facts["gpus"] = 1
    [finding] = diagnose(machine)
    assert "mxnetseg-mxnet and mxnet-cu112" in finding.what and "CPU build is in place" in finding.what


def test_problems_come_before_notes(machine):
    machine.driver = True
    del machine.versions["tqdm"]
    findings = diagnose(machine)
    assert [f.needed for f in findings] == [True, False]
    text = report(machine, findings)
    assert text.index("problem: ") < text.index("note: ") and text.endswith("problems to fix: 1")


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Return a function that writes a module where child processes find it."""
    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return write


@pytest.mark.parametrize("text, words", [
    ("import os; os.kill(os.getpid(), 11)", "crashed Python with signal 11"),
    ("raise ImportError('libGL.so.1: cannot open')", "ImportError: libGL.so.1: cannot open"),
    ("import sys; sys.exit('gone')", "gone"),
])
def test_importing_a_broken_module_returns_its_error(broken, text, words):
    broken("brokenmodule", text)
    trial = try_import("brokenmodule")
    assert not trial.ok and words in trial.error


def test_importing_a_module_that_hangs(broken, monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 1)
    broken("hangingmodule", "import time; time.sleep(60)")
    assert "did not end" in try_import("hangingmodule").error


def test_importing_a_module_that_prints(broken):
    broken("printingmodule", "print('hello'); print('{')\nx = 3")
    trial = try_import("printingmodule", "facts['x'] = m.x")
    assert trial.ok and trial.facts["x"] == 3


def test_numpy_3_does_not_stop_the_doctor(broken):
    broken("numpy", "__version__ = '3.1.0'")
    broken("mxnet", "x = 1")
    trial = try_import("mxnet")
    assert not trial.ok and "MXNet 1.9.1 does not run with NumPy 3" in trial.error


def test_the_command_on_this_machine(capsys):
    code = main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] == (code == 0)
    assert found["machine"]["python"] == list(sys.version_info[:3])
    assert found["machine"]["versions"]["numpy"] == metadata.version("numpy")
    assert found["machine"]["trials"]["mxnet"]["ok"], "the other tests need mxnet too"

    assert found["machine"]["trials"]["mxnet"]["facts"]["gpus"] >= 0


@pytest.mark.parametrize("healthy, code", [(True, 0), (False, 1)])
def test_exit_code(machine, monkeypatch, capsys, healthy, code):
    if not healthy:
        del machine.versions["tqdm"]
    monkeypatch.setattr(doctor, "examine", lambda: machine)
    assert main(["doctor"]) == code
    out = capsys.readouterr().out
    assert ("problem: the package tqdm is not installed" in out) != healthy


def test_every_cuda_library_has_a_package():
    assert all(re.fullmatch(r"lib\w+\.so\.[\d.]+", library) for library in CUDA_LIBRARIES)
    assert all(package.startswith("nvidia-") and "-cu11" in package for package in CUDA_LIBRARIES.values())
