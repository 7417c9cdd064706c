"""The public API: one import for all names, fast, known to type checkers, and with an example that runs."""
from __future__ import annotations

import ast
import doctest
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mxnetseg
from mxnetseg.tools.main import main

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in mxnetseg.__all__ if name != "__version__"]


def run_python(code):
    """Run Python code in a separate process; return its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_object_of_its_module(name):
    public = getattr(mxnetseg, name)
    assert public.__module__.startswith(mxnetseg._MODULES[name])
    assert public is getattr(sys.modules[mxnetseg._MODULES[name]], name)


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "mxnetseg/__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = {alias.name: f"mxnetseg.{node.module}" for node in block.body for alias in node.names}
    assert imported == mxnetseg._MODULES and set(imported) == set(NAMES)
    assert (ROOT / "mxnetseg/py.typed").is_file()


def test_importing_mxnetseg_loads_no_large_package():
    code = "import sys, mxnetseg; print(sorted({'mxnet', 'numpy', 'cv2', 'yaml', 'PIL'} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


def test_data_metrics_and_configuration_do_not_load_mxnet():
    code = ("import sys\nfrom mxnetseg import ConfusionMatrix, get_dataset, list_datasets, list_models, load_config\n"
            "print('mxnet' in sys.modules)")
    assert run_python(code).strip() == "False"


def test_dir_lists_every_name_and_others_are_errors():
    assert set(mxnetseg.__all__) <= set(dir(mxnetseg))
    with pytest.raises(AttributeError, match="get_modle"):
        mxnetseg.get_modle  # noqa: B018
    with pytest.raises(ImportError):
        from mxnetseg import get_modle  # noqa: F401


def test_star_import_gives_all_names():
    code = "from mxnetseg import *\nprint(*sorted(name for name in globals() if not name.startswith('__')))"
    assert run_python(code).split() == sorted(NAMES)


# ---- examples -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Write a checkpoint of an untrained network, as a training run writes it, and return its path."""
    import mxnet as mx

    from mxnetseg import load_config
    from mxnetseg.engine.trainer import Trainer

    folder = tmp_path_factory.mktemp("weights")
    config = load_config(model="fcn", overrides=["train.epochs=1", "data.crop_size=32", "data.base_size=48"])
    result = Trainer(config, [mx.cpu()], folder=folder, validate=False, quiet=True).fit()
    yield result.last.path
    shutil.rmtree(folder)  # pytest keeps the folders of three sessions, and this one is large


@pytest.mark.parametrize("name", NAMES)
def test_example(name, request, tmp_path, monkeypatch):
    """Run the example of each docstring in a folder with ``street.png`` and, for a predictor, ``fcn.params``."""
    pytest.importorskip({"to_torch": "torch", "to_onnx": "onnx", "to_float16": "onnxruntime"}.get(name, "mxnetseg"))
    public = getattr(mxnetseg, name)
    module = sys.modules[public.__module__]
    tests = [test for test in doctest.DocTestFinder(recurse=inspect.isclass(public)).find(public, name, module=module)
             if test.examples]
    assert tests, f"the docstring of {name} has no example"

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "demo/street.png", tmp_path)
    if any("fcn.params" in example.source for test in tests for example in test.examples):
        path = request.getfixturevalue("checkpoint")
        for suffix in (".params", ".json", ".state"):
            shutil.copy(path.with_suffix(suffix), tmp_path / f"fcn{suffix}")
    if name == "from_pretrained":
        pytest.importorskip("safetensors")
        assert main(["export", str(request.getfixturevalue("checkpoint")), "street-fcn", "--format", "hub"]) == 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    output = []
    for test in tests:
        test.globs = {}  # an example imports what it uses, as a reader has to
        runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)
