"""Comparison of a report with the targets, with made-up results."""
from benchmarks.rounds import Measurement
from benchmarks.targets import TARGETS, compare, side_by_side, summary


def result(name, seconds, peak=100.0, failure=None, **more):
    return Measurement(name, [seconds] * 3 if failure is None else [], {}, peak, failure, **more).to_dict()


def a_run(do, *results, size=(512, 512), batch=1):
    return {"do": do, "network": "fcn", "size": list(size), "batch": batch, "results": results}


INFERENCE = a_run(
    "infer", result("MXNet, MXNetSeg's way", 0.4), result("ours, float32", 0.2), result("ours, bfloat16", 0.125),
    result("ours, int8", 0.05), result("PyTorch, eager float32", 0.3), result("PyTorch, frozen float32", 0.25),
    result("PyTorch, compiled bfloat16", 0.1), result("PyTorch, frozen bfloat16", 0.0, failure="no compiler"))


def rows(*runs):
    return {(row["what"], row["against"]): row for row in compare(runs) if row["value"] is not None}


def test_the_fastest_form_of_pytorch_counts():
    found = rows(INFERENCE)
    assert {key[0] for key in found} == {"inference float32", "inference bfloat16", "inference int8"}
    best = "PyTorch's best, times as fast"
    assert found["inference float32", best]["value"] == 1.25 and found["inference float32", best]["reached"]
    assert found["inference bfloat16", best]["value"] == 0.8 and not found["inference bfloat16", best]["reached"]
    original = found["inference bfloat16", "MXNetSeg's way, times"]
    assert original["value"] == 3.2 and original["reached"] is False
    assert found["inference int8", "our bfloat16, times"]["reached"]


def backends(precision, *results, network="fcn", **more):
    return {**a_run("backends", *results, **more), "precision": precision, "network": network}


BACKENDS = [
    backends("float32", result("mxnet float32", 0.25), result("torch, compiled float32", 0.2),
             result("openvino float32", 0.0, failure="absent"), result("PyTorch, frozen float32", 0.25),
             result("PyTorch, compiled float32", 0.22)),
    backends("float32", result("mxnet float32", 0.2), result("openvino float32", 0.16),
             result("PyTorch, frozen float32", 0.12), network="bisenet"),
    backends("int8", result("mxnet int8", 0.08), result("openvino int8", 0.05),
             result("OpenVINO with NNCF int8", 0.05))]


def test_the_fastest_backend_counts():
    rows_found = [row for row in compare(BACKENDS) if row["value"] is not None]
    assert [(row["what"], row["where"], round(row["value"], 3), row["reached"]) for row in rows_found] == [
        ("best backend float32", "fcn 1x512x512", 1.1, True),
        ("best backend float32", "bisenet 1x512x512", 0.75, False),
        ("best backend int8", "fcn 1x512x512", 1.0, True)]
    alone = backends("float32", result("mxnet float32", 0.2))
    assert not rows(alone, {**BACKENDS[0], "size": [64, 64]})


def test_backends_side_by_side():
    assert side_by_side([INFERENCE, *BACKENDS]).splitlines() == [
        "| float32, 1 x 512 x 512, ms | fcn | bisenet |",
        "| --- | --- | --- |",
        "| mxnet float32 | 250 (0.88) | 200 (0.60) |",
        "| torch, compiled float32 | 200 (1.10) | - |",
        "| openvino float32 | - | 160 (0.75) |",
        "| PyTorch, frozen float32 | 250 (0.88) | 120 (1.00) |",
        "| PyTorch, compiled float32 | 220 (1.00) | - |",
        "| fastest backend over fastest rival | **1.10** | 0.75 |",
        "",
        "| int8, 1 x 512 x 512, ms | fcn |",
        "| --- | --- |",
        "| mxnet int8 | 80 (0.62) |",
        "| openvino int8 | 50 (1.00) |",
        "| OpenVINO with NNCF int8 | 50 (1.00) |",
        "| fastest backend over fastest rival | **1.00** |"]


def test_other_sizes_do_not_count_for_inference():
    assert not rows({**INFERENCE, "size": [1024, 2048]}) and not rows({**INFERENCE, "batch": 8})


def test_upper_bounds():
    found = rows(
        a_run("train", result("ours, float32", 1.0, peak=110.0), result("PyTorch, eager float32", 1.2, peak=50.0),
              result("PyTorch, compiled float32", 1.1, peak=100.0)),
        a_run("epoch", result("ours, float32", 2.0, noted={"waited_seconds": [0.0, 0.06, 0.0]}),
              result("PyTorch, channels_last float32", 1.0, noted={"waited_seconds": [3.0] * 3})),
        a_run("memory", result("ours, float32", 1.0, noted={"resident_mib": [50, 100, 100, 100, 101, 101]}),
              result("ours, bfloat16", 1.0, noted={"resident_mib": [50, 100, 110, 120, 130, 140]})),
        a_run("start", result("mxnetseg --help", 0.1)))
    by_what = {what: row for (what, _), row in found.items()}
    assert by_what["training peak float32"]["value"] == 1.1 and not by_what["training peak float32"]["reached"]
    assert abs(by_what["training waits for data"]["value"] - 0.01) < 1e-9
    assert by_what["training waits for data"]["reached"]
    assert abs(by_what["evaluation's memory"]["value"] - 0.4) < 1e-9 and not by_what["evaluation's memory"]["reached"]
    assert by_what["mxnetseg --help"]["reached"]


def test_four_devices_without_a_gpu_take_no_longer_than_the_cpu():
    for seconds, reached in ((1.05, True), (4.0, False)):
        (row,) = rows(a_run("devices", result("ours, --ctx cpu", 1.0), result("ours, --ctx 0 1 2 3", seconds))).values()
        assert (row["value"], row["reached"]) == (seconds, reached)
    assert not rows(a_run("devices", result("ours, --ctx cpu", 1.0)))


def test_one_round_has_no_growth():
    assert not rows(a_run("memory", result("ours, float32", 1.0, noted={"resident_mib": [100]})))


def test_evaluation_counts_speed_and_score():
    run = a_run("evaluate", result("GluonCV", 10.0, ended={"miou": 50.0}),
                result("ours, float32", 2.0, ended={"miou": 50.04}),
                result("ours, bfloat16", 1.25, ended={"miou": 49.0}),
                result("ours, float32 whole", 1.0, ended={"miou": 50.2}))
    found = rows(run)
    assert {key: row["reached"] for key, row in found.items()} == {
        ("evaluation float32", "GluonCV, times as fast"): True,
        ("evaluation bfloat16", "GluonCV, times as fast"): False,
        ("evaluation float32", "GluonCV, mIoU difference"): True,
        ("evaluation float32 whole", "GluonCV, times as fast"): True,
        ("evaluation float32 whole", "GluonCV, mIoU difference"): False}


def test_targets_that_were_not_measured_stay_in_the_list():
    nothing = compare([])
    assert len(nothing) == len(TARGETS) and all(row["reached"] is None for row in nothing)
    failed = a_run("train", result("ours, float32", 0.0, failure="broken"), result("PyTorch, eager float32", 1.0))
    assert all(row["reached"] is None for row in compare([failed]))
    text = summary(compare([INFERENCE]))
    assert "not measured" in text and " NO" in text and " yes" in text and ">= 0.7" in text
    assert len(text.splitlines()) == len(TARGETS) + 1
