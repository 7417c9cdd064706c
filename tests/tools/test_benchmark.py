"""``mxnetseg benchmark``: every task runs end to end, at tiny sizes; nobody's speed is asserted."""
import json
import sys
from dataclasses import replace

import pytest

from benchmarks import tasks
from benchmarks.tasks import DEFAULTS, NETWORKS, TASKS, make_part, misfits, settings, the_quick, the_whole
from benchmarks.turns import Competitor, Measured
from mxnetseg.tools import benchmark, main


@pytest.fixture
def bench(tmp_path, capsys):
    """Run the command; the exit code, the report and what was printed."""
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
    assert "ours, int8" in found and "MXNet, MXNetSeg's way" in out and "pictures/s" in out
    assert found["ours, float32"]["peak_mib"] > found["ours, float32"]["ready"]["imported_mib"] > 10


@pytest.mark.slow
def test_training(bench):
    code, report, out = bench("--do", "train", "--size", "32", "48", "--rounds", "1")
    assert code == 0 and {"MXNet, MXNetSeg's way", "ours, float32"} <= set(by_name(report["runs"][0]))
    assert "MiB over import" in out


@pytest.mark.slow
def test_epoch(bench):
    code, report, out = bench("--do", "epoch", "--size", "64", "64", "--batch", "32", "--rounds", "2")
    for result in by_name(report["runs"][0]).values():
        assert result["noted"]["pictures"] == [64, 64] and 0 <= tasks.waited(result) < 1
    assert code == 0 and "waited" in out


@pytest.mark.slow
def test_devices(bench):
    code, report, out = bench("--do", "devices", "--size", "64", "64", "--rounds", "1")
    assert code == 0 and set(by_name(report["runs"][0])) == {"ours, --ctx cpu", "ours, --ctx 0 1 2 3"}
    (bar,) = [row for row in report["bars"] if row["what"].startswith("--ctx") and row["value"] is not None]
    assert bar["wanted"] == 1.1 and 0 < bar["value"] < 3  # four contexts took minutes; the bar is for an idle machine


@pytest.mark.slow
def test_loader(bench):
    code, report, out = bench("--do", "loader", "--size", "128", "192", "--rounds", "1")
    assert code == 0 and [run["kind"] for run in report["runs"]] == ["png", "jpg"]
    for run in report["runs"]:
        found = by_name(run)
        assert set(found) == {"GluonCV", "ours, uint8", "ours, float32"}
        assert all(r["noted"]["pictures"] == [8] and r["noted"]["cpu_seconds"][0] > 0 for r in found.values())
    assert "CPU ms each" in out


@pytest.mark.slow
def test_memory(bench, monkeypatch):
    monkeypatch.setitem(tasks.DEFAULTS, "memory", replace(DEFAULTS["memory"], pictures=4))
    code, report, out = bench("--do", "memory", "--size", "32", "32", "--rounds", "2")
    held = by_name(report["runs"][0])["ours, float32"]["noted"]["resident_mib"]
    assert code == 0 and len(held) == 2 and min(held) > 50 and "after 8" in out


@pytest.mark.slow
def test_start(bench):
    code, report, _ = bench("--do", "start", "--size", "32", "32", "--rounds", "1")
    found = by_name(report["runs"][0])
    assert code == 0 and {"mxnetseg --help", "import mxnet, gluoncv", "first picture, ours, float32"} <= set(found)
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
    """Tasks that compute nothing, one for each kind of failure."""
    def part(title, *parameters, prepare=lambda folder: {}):
        return tasks.Part(title, [Competitor(f"c{i}", [sys.executable, "-c", WORKER], {"parameters": n} if n else
                                             {"dies": True}) for i, n in enumerate(parameters)], "c0", prepare=prepare)

    def broken(folder):
        raise OSError("disk full")
    parts = {"infer": part("good", 7, 7), "train": part("half", 7, None), "epoch": part("unequal", 7, 8),
             "loader": part("none", None, None), "memory": part("unprepared", 7, prepare=broken),
             "start": part("last", 7)}
    monkeypatch.setattr(tasks, "_MAKERS", {do: lambda setting, torch, p=p: p for do, p in parts.items()})
    return [replace(DEFAULTS[do], rounds=1) for do in parts]


def test_a_part_that_fails_does_not_stop_the_others(made_up, tmp_path, capsys):
    file = tmp_path / "bench.json"
    report = benchmark.measure(made_up, file=file)
    assert json.loads(file.read_text()) == report
    assert all(run["threads"] >= 1 and run["size"] and run["title"] for run in report["runs"])
    good, half, unequal, none, unprepared, last = report["runs"]
    assert good["failure"] is None and half["failure"] is None and last["failure"] is None
    assert half["results"][1]["failure"] == "out of luck"
    assert "not the same network: {'c0': 7, 'c1': 8}" in unequal["failure"]
    assert all(r["failure"] for r in unequal["results"])  # so that nobody counts them
    assert none["failure"] == "nobody took part" and unprepared["failure"] == "OSError: disk full"
    out = capsys.readouterr().out
    assert out.count("FAILED") == 3 and "last" in out


def test_all_ends_with_the_bars_and_says_what_failed(made_up, bench, monkeypatch):
    monkeypatch.setattr(tasks, "the_quick", lambda networks: iter(made_up))
    code, report, out = bench("--do", "all", "--quick", "--rounds", "2")
    assert len(report["runs"][0]["results"][0]["seconds"]) == 2
    assert code == 1 and len(report["runs"]) == 6 and report["machine"]["cores"] >= 1
    assert "not measured, see above:\n  unequal" in out and "inference float32" in out and report["bars"]


def test_the_sets_have_every_task_and_network():
    for parts in (list(the_whole(list(NETWORKS))), list(the_quick(["fcn"]))):
        assert {p.do for p in parts} == set(TASKS)
        for part in parts:
            names = [c.name for c in make_part(part, torch="python").competitors]
            assert len(names) == len(set(names)) and part.rounds > 0
    whole = list(the_whole(list(NETWORKS)))
    assert {p.network for p in whole if p.do == "train"} == set(NETWORKS)
    infer = [(p.size, p.batch) for p in whole if p.do == "infer" and p.network == "fcn"]
    assert infer == [((512, 512), 1), ((1024, 2048), 1), ((512, 512), 8)]


def test_pictures_in_one_piece_have_a_part_of_their_own():
    """Their memory: two of them, or one beside all the forms with windows, may find too little."""
    names = [[c.name for c in make_part(s).competitors] for s in settings("evaluate", networks=["fcn"])]
    assert names[0][:2] == ["GluonCV", "ours, float32"] and not any("whole" in name for name in names[0])
    assert names[1] == ["GluonCV", "ours, float32 whole"] and all(len(part) == 2 for part in names[1:])


def test_pytorch_takes_part_in_what_it_can_do():
    for do in TASKS:
        (part, *_) = [make_part(s, torch="/its/python") for s in settings(do, networks=["fcn"])]
        assert any("/its/python" in [*c.command, *c.task.get("command", ())] for c in part.competitors) == \
            (do not in ("memory", "evaluate", "devices"))


def test_options_that_do_not_go_together(bench):
    for argv in (["--do", "all", "--size", "8", "8"], ["--do", "all", "train"], ["--do", "train", "--quick"]):
        code, report, out = bench(*argv)
        assert code == 2 and report is None and "fix:" in out


def test_a_python_without_pytorch_is_left_out(capsys):
    assert benchmark._torch(sys.executable) is None and benchmark._torch("/no/such/python") is None
    assert capsys.readouterr().out.count("PyTorch is left out") == 2


def test_unequal_networks():
    equal = [Measured("A", [1.0], {"parameters": 7}), Measured("B", [1.0], {"parameters": 7}),
             Measured("C", failure="absent")]
    assert misfits(equal) is None
    assert misfits([*equal, Measured("D", [1.0], {"parameters": 8})]) == {"A": 7, "B": 7, "D": 8}
