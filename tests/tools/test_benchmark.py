"""``mxnetseg benchmark``: every task runs end to end at tiny sizes. No speed is asserted."""
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import settings as benchmark_settings
from benchmarks import tasks
from benchmarks.rounds import Competitor, Measurement
from benchmarks.settings import DEFAULTS, NETWORKS, TASKS, full_set, half_precisions, quick_set, settings
from benchmarks.tasks import make_task, parameter_mismatch
from mxnetseg.tools import benchmark, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path, capsys):
    """Return a function that runs the command and returns the exit code, the report and the output."""
    def run(*argv):
        file = tmp_path / "bench.json"
        code = main.main(["benchmark", *argv, "--threads", "1", "--json", str(file)])
        out, err = capsys.readouterr()
        return code, json.loads(file.read_text()) if file.exists() else None, out + err
    return run


def by_name(run):
    assert all(r["failure"] is None for r in run["results"]), run["results"]
    return {r["name"]: r for r in run["results"]}


@pytest.mark.slow
def test_inference(bench):
    code, report, out = bench("--size", "32", "48", "--rounds", "1")
    (run,) = report["runs"]
    found = by_name(run)
    assert code == 0 and run["failure"] is None and {r["ready"]["parameters"] for r in found.values()} == {12371667}
    assert "ours, int8" in found and "MXNet, MXNetSeg's way" in out and "images/s" in out
    assert found["ours, float32"]["peak_mib"] > found["ours, float32"]["ready"]["imported_mib"] > 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_backends(bench):
    """Each backend computes the logits of MXNet; OpenVINO computes the int8 file, too."""
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    code, report, out = bench("--backends", "--model", "fcn", "--size", "32", "48", "--rounds", "1")
    names = {run["precision"]: set(by_name(run)) for run in report["runs"]}
    assert code == 0 and {"float32", "int8"} <= set(names)
    assert names["float32"] == {"mxnet float32", "torch, channels_last float32", "torch, compiled float32",
                                "onnxruntime float32", "openvino float32"}
    assert names["int8"] == {"mxnet int8", "onnxruntime int8", "openvino int8"}
    for run in report["runs"]:
        assert {r["ready"]["parameters"] for r in run["results"]} == {12371667}
        found = [r["ready"]["difference"] for r in run["results"] if "difference" in r["ready"]]
        assert found and max(found) < {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.5}[run["precision"]]
    assert "| openvino int8 | " in out and "fastest backend over fastest rival" in out


@pytest.mark.slow
def test_training(bench):
    code, report, out = bench("--do", "train", "--size", "32", "48", "--rounds", "1")
    assert code == 0 and {"MXNet, MXNetSeg's way", "ours, float32"} <= set(by_name(report["runs"][0]))
    assert "MiB over import" in out


@pytest.mark.slow
def test_epoch(bench):
    code, report, out = bench("--do", "epoch", "--size", "64", "64", "--batch", "32", "--rounds", "2")
    for result in by_name(report["runs"][0]).values():
        assert result["noted"]["images"] == [64, 64] and 0 <= tasks.waiting_ratio(result) < 1
    assert code == 0 and "waited" in out


@pytest.mark.slow
def test_devices(bench):
    code, report, out = bench("--do", "devices", "--size", "64", "64", "--rounds", "1")
    assert code == 0 and set(by_name(report["runs"][0])) == {"ours, --ctx cpu", "ours, --ctx 0 1 2 3"}
    (target,) = [row for row in report["targets"] if row["what"].startswith("--ctx") and row["value"] is not None]
    assert target["wanted"] == 1.1 and 0 < target["value"] < 3  # four contexts took minutes; an idle machine is assumed


@pytest.mark.slow
def test_loader(bench):
    code, report, out = bench("--do", "loader", "--size", "128", "192", "--rounds", "1")
    assert code == 0 and [run["kind"] for run in report["runs"]] == ["png", "jpg"]
    for run in report["runs"]:
        found = by_name(run)
        assert set(found) == {"GluonCV", "ours, uint8", "ours, float32"}
        assert all(r["noted"]["images"] == [8] and r["noted"]["cpu_seconds"][0] > 0 for r in found.values())
    assert "CPU ms each" in out


@pytest.mark.slow
def test_memory(bench, monkeypatch):
    monkeypatch.setitem(benchmark_settings.DEFAULTS, "memory", replace(DEFAULTS["memory"], images=4))
    code, report, out = bench("--do", "memory", "--size", "32", "32", "--rounds", "2")
    held = by_name(report["runs"][0])["ours, float32"]["noted"]["resident_mib"]
    assert code == 0 and len(held) == 2 and min(held) > 50 and "after 8" in out


@pytest.mark.slow
def test_start(bench):
    code, report, _ = bench("--do", "start", "--size", "32", "32", "--rounds", "1")
    found = by_name(report["runs"][0])
    assert code == 0 and {"mxnetseg --help", "import mxnet, gluoncv", "first image, ours, float32"} <= set(found)
    assert found["mxnetseg --help"]["peak_mib"] < found["import mxnet, gluoncv"]["peak_mib"]


WORKER = """
import json, sys
from benchmarks.serve import serve
task = json.loads(sys.argv[1])
if task.get("dies"):
    raise SystemExit("out of luck")
serve({"parameters": task["parameters"]}, dict)
"""


@pytest.fixture
def made_up(monkeypatch):
    """Return settings of tasks that compute nothing: good ones, and one for each kind of failure."""
    def task(title, *parameters, prepare=lambda folder: {}):
        return tasks.BenchmarkTask(title, [
            Competitor(f"c{i}", [sys.executable, "-c", WORKER], {"parameters": n} if n else {"dies": True})
            for i, n in enumerate(parameters)], "c0", prepare=prepare)

    def broken(folder):
        raise OSError("disk full")
    made = {"infer": task("good", 7, 7), "train": task("half", 7, None), "epoch": task("unequal", 7, 8),
            "loader": task("none", None, None), "memory": task("unprepared", 7, prepare=broken),
            "start": task("last", 7)}
    monkeypatch.setattr(tasks, "_MAKERS", {do: lambda setting, torch, t=t: t for do, t in made.items()})
    return [replace(DEFAULTS[do], rounds=1) for do in made]


def test_a_task_that_fails_does_not_stop_the_others(made_up, tmp_path, capsys):
    file = tmp_path / "bench.json"
    report = benchmark.measure(made_up, file=file)
    assert json.loads(file.read_text()) == report
    assert all(run["threads"] >= 1 and run["size"] and run["title"] for run in report["runs"])
    good, half, unequal, none, unprepared, last = report["runs"]
    assert good["failure"] is None and half["failure"] is None and last["failure"] is None
    assert half["results"][1]["failure"] == "out of luck"
    assert "not the same network: {'c0': 7, 'c1': 8}" in unequal["failure"]
    assert all(r["failure"] for r in unequal["results"])  # so that no target counts them
    assert none["failure"] == "no competitor ran" and unprepared["failure"] == "OSError: disk full"
    out = capsys.readouterr().out
    assert out.count("FAILED") == 3 and "last" in out


def test_all_ends_with_the_targets_and_lists_failures(made_up, bench, monkeypatch):
    monkeypatch.setattr(benchmark_settings, "quick_set", lambda networks: iter(made_up))
    code, report, out = bench("--do", "all", "--quick", "--rounds", "2")
    assert len(report["runs"][0]["results"][0]["seconds"]) == 2
    assert code == 1 and len(report["runs"]) == 6 and report["machine"]["cores"] >= 1
    assert "failed, for the reasons above:\n  unequal" in out and "inference float32" in out and report["targets"]


def test_the_sets_have_every_task_and_network():
    for chosen in (list(full_set(list(NETWORKS))), list(quick_set(["fcn"]))):
        assert {setting.do for setting in chosen} == set(TASKS)
        for setting in chosen:
            names = [c.name for c in make_task(setting, torch="python").competitors]
            assert len(names) == len(set(names)) and setting.rounds > 0
    whole = list(full_set(list(NETWORKS)))
    assert {p.network for p in whole if p.do == "train"} == set(NETWORKS)
    infer = [(p.size, p.batch) for p in whole if p.do == "infer" and p.network == "fcn"]
    assert infer == [((512, 512), 1), ((1024, 2048), 1), ((512, 512), 8)]


def test_images_in_one_piece_have_separate_tasks():
    """Two of them at once, or one beside all the forms with windows, may need too much memory."""
    names = [[c.name for c in make_task(s).competitors] for s in settings("evaluate", networks=["fcn"])]
    assert names[0][:2] == ["GluonCV", "ours, float32"] and not any("whole" in name for name in names[0])
    assert names[1] == ["GluonCV", "ours, float32 whole"] and all(len(task) == 2 for task in names[1:])


def test_pytorch_competes_where_it_can():
    for do in TASKS:
        (task, *_) = [make_task(s, torch="/its/python") for s in settings(do, networks=["fcn"])]
        assert any("/its/python" in [*c.command, *c.task.get("command", ())] for c in task.competitors) == \
            (do not in ("memory", "evaluate", "devices"))


def test_backends_have_a_task_for_each_precision():
    chosen = list(settings("backends", networks=["fcn", "bisenet"]))
    assert [s.precision for s in chosen if s.network == "bisenet"] == ["float32", *half_precisions(), "int8"]
    by_precision = {s.precision: make_task(s, torch="/its/python") for s in chosen if s.network == "fcn"}
    for precision, task in by_precision.items():
        names = [c.name for c in task.competitors]
        assert all(name.endswith(precision) for name in names)
        assert [n for n in names if not n.startswith(tasks.BACKENDS)] == (
            [tasks.NNCF] if precision == "int8" else
            [tasks.pytorch(form, precision) for form in ("frozen", "compiled")])


def test_a_rival_is_the_fastest_that_ran():
    results = [Measurement("openvino float32", [0.1]), Measurement("PyTorch, frozen float32", [0.3]),
               Measurement("PyTorch, compiled float32", [0.2]), Measurement("PyTorch, eager float32", failure="absent")]
    assert tasks.fastest_rival(results) == "PyTorch, compiled float32" and tasks.fastest_rival(results[:1]) is None


def test_options_that_contradict_each_other(bench):
    for argv in (["--do", "all", "--size", "8", "8"], ["--do", "all", "train"], ["--do", "train", "--quick"],
                 ["--backends", "--do", "infer"], ["--backends", "--quick"]):
        code, report, out = bench(*argv)
        assert code == 2 and report is None and "fix:" in out


def test_a_python_without_pytorch_is_left_out(capsys):
    assert benchmark._find_torch(shutil.which("false")) is None and benchmark._find_torch("/no/such/python") is None
    assert capsys.readouterr().out.count("PyTorch is left out") == 2


def test_networks_with_different_numbers_of_parameters():
    equal = [Measurement("A", [1.0], {"parameters": 7}), Measurement("B", [1.0], {"parameters": 7}),
             Measurement("C", failure="absent")]
    assert parameter_mismatch(equal) is None
    assert parameter_mismatch([*equal, Measurement("D", [1.0], {"parameters": 8})]) == {"A": 7, "B": 7, "D": 8}


def run_elsewhere(code, package, tmp_path):
    """Run Python in an empty working directory, with the package of a given folder."""
    return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(package)})


def test_the_command_works_from_any_working_directory(tmp_path):
    code = ("import sys; from mxnetseg.tools.benchmark import find_checkout; find_checkout(); import benchmarks.tasks\n"
            "from benchmarks.rounds import Competitor, run_rounds\n"
            "(result,) = run_rounds([Competitor('A', [sys.executable, '-m', 'benchmarks.start'],"
            " {'command': [sys.executable, '--version']})], rounds=1, threads=1)\n"
            "print(result.failure, len(result.seconds))")
    code = f"import mxnetseg, sys; sys.path.remove({str(ROOT)!r}); {code}"  # as an editable install is imported
    done = run_elsewhere(code, ROOT, tmp_path)
    assert done.stdout == "None 1\n", done.stderr


def test_an_installed_copy_says_that_it_needs_a_checkout(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(ROOT / "mxnetseg", site / "mxnetseg", ignore=shutil.ignore_patterns("__pycache__"))
    for argv in (["benchmark"], ["benchmark", "--help"]):
        done = run_elsewhere(f"from mxnetseg.tools.main import main; raise SystemExit(main({argv}))", site, tmp_path)
        assert done.returncode == 1 and done.stdout == ""
        assert "needs a checkout" in done.stderr and "fix: " in done.stderr and "Traceback" not in done.stderr
