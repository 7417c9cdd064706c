"""Figures that a competitor reports about itself."""
import ast
import json
import mmap
from pathlib import Path

import pytest

import benchmarks
from benchmarks import serve

FOLDER = Path(benchmarks.__file__).parent


def test_memory_is_in_mib():
    before, most = serve.resident_mib(), serve.peak_mib()
    assert most >= before > 10
    with mmap.mmap(-1, 64 << 20) as block:  # taken from the system, not from freed memory
        block[::4096] = b"x" * len(block[::4096])
        held = serve.resident_mib()
        assert 32 < held - before < 128
    assert serve.resident_mib() < held - 32
    assert serve.peak_mib() >= max(held, most) - 4  # Linux counts a few pages late


def test_waiting_for_items_is_counted_and_working_on_them_is_not(monkeypatch):
    clock, closed = [0.0], []
    monkeypatch.setattr(serve.time, "perf_counter", lambda: clock[0])

    def items(count):
        try:
            for i in range(count):
                clock[0] += 1
                yield i
        finally:
            closed.append(count)
    waited = serve.WaitingTime(items)
    for _ in waited(3):
        clock[0] += 100
    assert waited.take() == 3 and waited.take() == 0 and closed == [3]
    for _ in waited(5):
        break
    assert waited.take() == 1


@pytest.mark.parametrize("hot", [False, True])
def test_a_hot_round_begins_with_a_run_that_is_not_timed(hot, monkeypatch, capsys):
    clock, runs = [0.0], []
    monkeypatch.setattr(serve.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(serve.sys, "stdin", ["\n", "\n"])

    def run():
        runs.append(clock[0])
        clock[0] += 5 if len(runs) == 1 else 1
    serve.serve({}, run, hot=hot)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["seconds"] for answer in answers[1:3]] == ([1, 1] if hot else [5, 1])
    assert len(runs) == (4 if hot else 2)


def test_files_for_the_python_with_pytorch_import_nothing_of_mxnetseg():
    missing = {"serve", "theirs"}
    for name in ("serve", "theirs", "theirs_data"):
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0 and not node.module.startswith("mxnetseg"), name
                missing.discard(node.module)
            elif isinstance(node, ast.Import):
                assert not any(a.name.startswith("mxnetseg") for a in node.names), name
    assert not missing  # they import each other by these names
