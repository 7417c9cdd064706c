"""Competitors that run alternately. No speed is asserted."""
import json
import os
import sys

import pytest

from benchmarks import rounds
from benchmarks.rounds import Competitor, Measurement, machine, run_rounds, table

WORKER = """
import json, os, signal, sys
from benchmarks.serve import serve
task = json.loads(sys.argv[1])
print("output of a library")
if task.get("dies") == "at once":
    raise SystemExit("no such network")
if task.get("dies") == "of a signal":
    os.kill(os.getpid(), signal.SIGILL)
number = 0
def run():
    global number
    number += 1
    with open(task["log"], "a") as file:
        file.write(task["me"])
    if task.get("dies") == "later" and number == 2:
        raise ValueError("out of luck")
    return {"images": 10 * number}
def end():
    if task.get("dies") == "at the end":
        raise ValueError("exhausted")
    return {"miou": 0.5}
serve({"parameters": task.get("parameters", 7)}, run, end)
"""


@pytest.fixture
def competitor(tmp_path):
    def make(me, **task):
        return Competitor(me, [sys.executable, "-c", WORKER], {"me": me, "log": str(tmp_path / "log"), **task})
    return make


def test_they_run_alternately(competitor, tmp_path):
    results = run_rounds([competitor("A"), competitor("B"), competitor("C")], rounds=3, threads=1)
    assert (tmp_path / "log").read_text() == "ABC" * 3
    for result in results:
        assert len(result.seconds) == 3 and min(result.seconds) >= 0 and result.failure is None
        assert result.ready == {"parameters": 7} and result.peak_mib > 1
        assert result.noted == {"images": [10, 20, 30]} and result.ended == {"miou": 0.5}


def test_one_that_fails_reports_why_and_the_others_continue(competitor, tmp_path):
    first, absent, quitter, nowhere, tired, crashed = run_rounds(
        [competitor("A"), competitor("B", dies="at once"), competitor("C", dies="later"),
         Competitor("D", ["/no/such/python"], {}), competitor("E", dies="at the end"),
         competitor("F", dies="of a signal")], rounds=3, threads=1)
    assert first.failure is None and len(first.seconds) == 3
    assert "/no/such/python" in nowhere.failure and "exhausted" in tired.failure
    assert absent.failure == "no such network" and absent.seconds == []
    assert "out of luck" in quitter.failure and len(quitter.seconds) == 1
    assert crashed.failure == "ended by SIGILL"
    text = table([first, absent, quitter], against="A")
    assert "did not run: no such network" in text


def test_one_that_hangs_is_ended(competitor, monkeypatch):
    monkeypatch.setattr(rounds, "_PATIENCE", 0.2)
    (hangs,) = run_rounds([Competitor("H", [sys.executable, "-c", "import time; time.sleep(60)"], {})], rounds=1)
    assert hangs.failure == "no answer within 0.2 seconds" and hangs.seconds == []


def test_each_has_as_many_cores_as_threads():
    code = "import json, os; from benchmarks.serve import serve; serve({'cores': len(os.sched_getaffinity(0)), " \
           "'threads': os.environ['OMP_NUM_THREADS']}, dict)"
    before = os.sched_getaffinity(0)
    (result,) = run_rounds([Competitor("A", [sys.executable, "-c", code], {})], rounds=1, threads=1)
    assert result.ready == {"cores": 1, "threads": "1"} and os.sched_getaffinity(0) == before


def test_the_results_can_be_written_as_json():
    for result in (Measurement("A", [0.2, 0.1, 0.3]), Measurement("B", failure="absent")):
        values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert values["median"] == (0.2 if result.failure is None else None)


def test_the_table_is_relative_to_one_of_them():
    slow, fast = Measurement("slow", [0.4] * 5, {}, 100.0), Measurement("fast", [0.1, 0.1, 0.1, 0.2, 0.1], {}, 50.0)
    lines = table([slow, fast], against="slow").splitlines()
    assert lines[1].endswith("1.00x") and lines[2].endswith("4.00x")
    assert "400.0" in lines[1] and "100.0" in lines[2]
    text = table([slow, fast], columns=[("images/s", lambda r: f"{2 / r.median:.1f}")])
    assert "images/s" in text and text.splitlines()[2].endswith("20.0")


def test_the_machine_is_described():
    here = machine()
    assert here["cores"] >= 1 and here["processor"]
