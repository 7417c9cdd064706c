"""Packaging: the files that say what is needed agree, and what is installed is whole."""
import base64
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mxnetseg
from mxnetseg._cuda import CUDA_LIBRARIES
from mxnetseg.tools.doctor import NEEDED, OPTIONAL

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup_arguments(monkeypatch):
    """What setup.py hands to setuptools."""
    captured = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return captured


def pins(name):
    lines = (line.strip() for line in (ROOT / name).read_text().splitlines())
    return {Requirement(line).name.lower(): Requirement(line) for line in lines if line and line[0] != "#"}


def test_version_is_the_package_s(setup_arguments):
    assert setup_arguments["version"] == mxnetseg.__version__


def test_every_pin_is_exact_and_fits_what_setup_py_asks_for(setup_arguments):
    for requirement in [*pins("requirements.txt").values(), *pins("requirements-test.txt").values()]:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
    pinned = pins("requirements.txt")
    asked = [*setup_arguments["install_requires"], *setup_arguments["extras_require"]["wandb"]]
    for requirement in map(Requirement, asked):
        version = str(pinned[requirement.name.lower()].specifier)[2:]
        assert requirement.specifier.contains(version), (requirement, version)
    tests = pins("requirements-test.txt")
    extras = setup_arguments["extras_require"]
    asked = [*extras["test"], *extras["prepare"], *extras["efficientnet-lite0"]]
    assert set(tests) == {Requirement(r).name for r in asked}


def test_doctor_looks_for_what_setup_py_asks_for(setup_arguments):
    needed = {spec for _, spec in NEEDED.values()} | {"setuptools; python_version >= '3.12'"}
    assert needed == set(setup_arguments["install_requires"])
    extras = setup_arguments["extras_require"]
    assert set(OPTIONAL) == {Requirement(r).name for r in
                             [*extras["wandb"], *extras["prepare"], *extras["efficientnet-lite0"]]}


def test_cuda_libraries_come_with_the_extra(setup_arguments):
    build, *libraries = setup_arguments["extras_require"]["cu112"]
    assert set(libraries) == set(CUDA_LIBRARIES.values())
    requirement = Requirement(build)
    assert requirement.name == "mxnetseg-cu112" and requirement.url == (ROOT / "wheels/cu112").as_uri()


def test_every_package_is_listed(setup_arguments):
    folders = {path.parent for path in (ROOT / "mxnetseg").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert {*names, "mxnetseg.configs"} == set(setup_arguments["packages"])


def test_an_installed_copy_finds_its_configurations(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    for folder in ("mxnetseg", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, source / file)
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)],
                   cwd=source, check=True, capture_output=True)
    code = "from mxnetseg.config import configs_dir, list_configs; print(configs_dir(), *list_configs())"
    environment = {**os.environ, "PYTHONPATH": str(built)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True,
                          capture_output=True, text=True)
    folder, *names = done.stdout.split()
    assert Path(folder) == (built / "mxnetseg" / "configs").resolve()
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def test_classifiers_name_the_supported_pythons(setup_arguments):
    supported = SpecifierSet(setup_arguments["python_requires"])
    named = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(setup_arguments["classifiers"]), re.M)
    assert named == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported]


def test_type_marker_is_listed(setup_arguments):
    """Before setuptools 69 a wheel held it only if it was listed; pyproject.toml allows older ones."""
    assert "py.typed" in setup_arguments["package_data"]["mxnetseg"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Names of the files in the source archive and in the wheel, and the wheel's METADATA."""
    source = tmp_path_factory.mktemp("archives") / "source"
    source.mkdir()
    for folder in ("mxnetseg", "configs", "docs", "wheels", "scripts", "tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, source)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "bdist_wheel"], cwd=source, check=True,
                   capture_output=True)
    sdist, = (source / "dist").glob("*.tar.gz")
    wheel, = (source / "dist").glob("*.whl")
    with tarfile.open(sdist) as opened:
        in_sdist = {name.partition("/")[2] for name in opened.getnames()}
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = set(opened.namelist())
        metadata, = (opened.read(name).decode() for name in in_wheel if name.endswith(".dist-info/METADATA"))
    return in_sdist, in_wheel, metadata


def test_source_archive_is_whole(archives):
    in_sdist, _, _ = archives
    assert {"LICENSE", "NOTICE", "CITATION.cff", "README.md", "docs/licences.md", "mxnetseg/py.typed",
            "requirements.txt", "wheels/cu112/backend.py"} <= in_sdist
    assert {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= in_sdist
    assert not any(name.startswith("tests/") for name in in_sdist)  # setuptools adds some of them by itself


def test_wheel_has_licence_type_marker_and_configurations(archives):
    _, in_wheel, metadata = archives
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in in_wheel if ".dist-info/" in name}
    assert "mxnetseg/py.typed" in in_wheel
    assert {f"mxnetseg/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= in_wheel
    assert {name.split("/")[0] for name in in_wheel if ".dist-info/" not in name} == {"mxnetseg"}
    assert {Path(name).suffix for name in in_wheel if name.startswith("mxnetseg/")} == {".py", ".yaml", ".typed"}
    assert "\nLicense: Apache-2.0\n" in metadata


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Something installed that calls itself mxnet-cu112."""
    files = {"mxnet/__init__.py": "x = 1\n", "mxnet/sub/a.py": "y = 2\n", "mxnet/libmxnet.so": "GPU",
             "mxnet_cu112-1.9.1.dist-info/METADATA":
                 "Metadata-Version: 2.1\nName: mxnet-cu112\nVersion: 1.9.1\n"}
    for name, text in files.items():
        path = tmp_path / "upstream" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    record = tmp_path / "upstream" / "mxnet_cu112-1.9.1.dist-info" / "RECORD"
    record.write_text("".join(f"{name},,\n" for name in [*files, "../../bin/tool"]))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "upstream"), *sys.path])


def test_gpu_build_is_repacked_beside_the_cpu_build(upstream, tmp_path):
    backend = runpy.run_path(str(ROOT / "wheels/cu112/backend.py"))
    name = backend["build_wheel"](str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        content = {entry: wheel.read(entry) for entry in wheel.namelist()}
    record = content["mxnetseg_cu112-1.9.1.dist-info/RECORD"].decode().splitlines()
    recorded = {entry: (digest, size) for entry, digest, size in (line.split(",") for line in record)}
    assert set(recorded) == set(content)
    for entry, (digest, size) in recorded.items():
        if not entry.endswith("RECORD"):
            sha = base64.urlsafe_b64encode(hashlib.sha256(content[entry]).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={sha}", len(content[entry]))
    packed = {entry for entry in content if "dist-info" not in entry}
    assert packed == {"mxnetseg_cu112/mxnet/__init__.py", "mxnetseg_cu112/mxnet/sub/a.py",
                      "mxnetseg_cu112/mxnet/libmxnet.so"}


def test_pip_installs_the_repacked_build(upstream, tmp_path):
    backend = runpy.run_path(str(ROOT / "wheels/cu112/backend.py"))
    (tmp_path / "metadata").mkdir()
    info = backend["prepare_metadata_for_build_wheel"](str(tmp_path / "metadata"))
    wheel = tmp_path / backend["build_wheel"](str(tmp_path))
    with zipfile.ZipFile(wheel) as opened:
        assert opened.read(f"{info}/METADATA") == (tmp_path / "metadata" / info / "METADATA").read_bytes()
    if sys.platform != "linux":
        pytest.skip("the wheel is for Linux")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet",
                           "--target", str(tmp_path / "site"), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "mxnetseg_cu112" / "mxnet" / "libmxnet.so").read_text() == "GPU"


def test_set_up_without_a_suitable_python_says_so(tmp_path):
    done = subprocess.run(["sh", str(ROOT / "scripts/make_venv.sh"), str(tmp_path / "venv")],
                          env={**os.environ, "PYTHON": "false"}, capture_output=True, text=True)
    assert done.returncode == 2 and "no suitable Python" in done.stderr and "fix:" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_explains_every_target():
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert [line.split()[1] for line in done.stdout.splitlines()] == phony


def test_ci_is_an_executable_script():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci/run")]).returncode == 0
