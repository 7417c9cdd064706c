"""Speed to reach, and its comparison with a report of the benchmark."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .tasks import (
    BACKENDS,
    GLUONCV,
    MXNETSEG,
    NNCF,
    in_pytorch,
    memory_growth,
    on_devices,
    ours,
    pytorch,
    waiting_ratio,
    whole,
)

Run = Mapping[str, Any]
Results = dict[str, dict[str, Any]]  # of the competitors that ran, by name
Value = Callable[[Results], Optional[float]]


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Attributes:
        what, against: description, for the table.
        do: the task whose runs have the figure.
        wanted: the figure.
        value: takes the results of a run and returns its figure, or None if the run does not have it.
        most: ``wanted`` is an upper bound, not a lower one.
        where: returns whether a run of the task counts.
    """

    what: str
    against: str
    do: str
    wanted: float
    value: Value
    most: bool = False
    where: Callable[[Run], bool] = lambda run: True

    def is_reached(self, value: float) -> bool:
        """Return whether a figure satisfies the target."""
        return value <= self.wanted if self.most else value >= self.wanted


def _speedup(name: str, rival: Callable[[Results], str | None]) -> Value:
    """Return a function that computes the rival's time divided by the time of ``name``."""
    def value(results):
        other = rival(results)
        return results[other]["median"] / results[name]["median"] if name in results and other in results else None
    return value


def _time_ratio(name: str, rival: str) -> Value:
    """Return a function that computes the time of ``name`` divided by the rival's."""
    def value(results):
        return results[name]["median"] / results[rival]["median"] if name in results and rival in results else None
    return value


def _fastest_pytorch(precision: str) -> Callable[[Results], str | None]:
    """Return a function that finds PyTorch's fastest form in a precision."""
    def name(results):
        names = [n for n in results if n.startswith("PyTorch") and n.endswith(precision)]
        return min(names, key=lambda n: results[n]["median"], default=None)
    return name


def _best_backend(rival: Callable[[Results], str | None]) -> Value:
    """Return a function that computes the rival's time divided by the time of our fastest backend."""
    def value(results):
        other = rival(results)
        seconds = [r["median"] for name, r in results.items() if name.startswith(BACKENDS)]
        return results[other]["median"] / min(seconds) if seconds and other in results else None
    return value


def _competitor(name: str) -> Callable[[Results], str | None]:
    return lambda results: name


def _peak_ratio(precision: str) -> Value:
    """Return a function that computes our peak memory divided by that of PyTorch's fastest form."""
    def value(results):
        other = _fastest_pytorch(precision)(results)
        mine = results.get(ours(precision))
        return mine["peak_mib"] / results[other]["peak_mib"] if mine and other else None
    return value


def _largest(figure: Callable[[dict[str, Any]], float | None]) -> Value:
    """Return a function that finds the largest figure among our forms."""
    def value(results):
        figures = [figure(r) for name, r in results.items() if name.startswith("ours")]
        return max((f for f in figures if f is not None), default=None)
    return value


def _miou_difference(form: str) -> Value:
    """Return a function that computes the difference between our mIoU and GluonCV's."""
    def value(results):
        mine, theirs = results.get(ours(form)), results.get(GLUONCV)
        return abs(mine["ended"]["miou"] - theirs["ended"]["miou"]) if mine and theirs else None
    return value


def _help_seconds(results: Results) -> float | None:
    return results["mxnetseg --help"]["median"] if "mxnetseg --help" in results else None


def _is_one_image_of_512(run: Run) -> bool:
    return run["size"] == [512, 512] and run["batch"] == 1


def _in_precision(precision: str) -> Callable[[Run], bool]:
    return lambda run: run.get("precision") == precision and _is_one_image_of_512(run)


BEST = "PyTorch's best, times as fast"
TARGETS: Sequence[Target] = (
    Target("inference float32", BEST, "infer", 1.0, _speedup(ours("float32"), _fastest_pytorch("float32")),
           where=_is_one_image_of_512),
    Target("inference bfloat16", BEST, "infer", 1.0, _speedup(ours("bfloat16"), _fastest_pytorch("bfloat16")),
           where=_is_one_image_of_512),
    Target("inference bfloat16", "MXNetSeg's way, times", "infer", 4.0,
           _speedup(ours("bfloat16"), _competitor(MXNETSEG)), where=_is_one_image_of_512),
    Target("inference int8", "our bfloat16, times", "infer", 1.8,
           _speedup(ours("int8"), _competitor(ours("bfloat16"))), where=_is_one_image_of_512),
    *(Target(f"best backend {precision}", BEST, "backends", 1.0, _best_backend(_fastest_pytorch(precision)),
             where=_in_precision(precision)) for precision in ("float32", "bfloat16")),
    Target("best backend int8", "OpenVINO with NNCF, times", "backends", 1.0, _best_backend(_competitor(NNCF)),
           where=_in_precision("int8")),
    Target("training float32", BEST, "train", 1.0, _speedup(ours("float32"), _fastest_pytorch("float32"))),
    Target("training bfloat16", BEST, "train", 0.7, _speedup(ours("bfloat16"), _fastest_pytorch("bfloat16"))),
    Target("training bfloat16", "MXNetSeg's way, times", "train", 3.0,
           _speedup(ours("bfloat16"), _competitor(MXNETSEG))),
    Target("training peak float32", "PyTorch's fastest, times its MiB", "train", 1.0, _peak_ratio("float32"),
           most=True),
    Target("training peak bfloat16", "PyTorch's fastest, times its MiB", "train", 1.0, _peak_ratio("bfloat16"),
           most=True),
    *(Target(f"training {in_pytorch(precision, compiled)}", "the hand-written network, times as fast", "train",
             0.95 if compiled else 0.98, _speedup(ours(in_pytorch(precision, compiled)), _competitor(
                 pytorch("compiled" if compiled else "channels_last", precision))))
      for precision in ("float32", "bfloat16") for compiled in (False, True)),
    Target("evaluation float32", "GluonCV, times as fast", "evaluate", 4.0,
           _speedup(ours("float32"), _competitor(GLUONCV))),
    Target("evaluation bfloat16", "GluonCV, times as fast", "evaluate", 10.0,
           _speedup(ours("bfloat16"), _competitor(GLUONCV))),
    Target("evaluation float32", "GluonCV, mIoU difference", "evaluate", 0.05, _miou_difference("float32"),
           most=True),
    *(Target(f"evaluation {whole(form)}", "GluonCV, times as fast", "evaluate", wanted,
             _speedup(ours(whole(form)), _competitor(GLUONCV))) for form, wanted in
      (("float32", 4.0), ("bfloat16", 10.0))),
    Target(f"evaluation {whole('float32')}", "GluonCV, mIoU difference", "evaluate", 0.05,
           _miou_difference(whole("float32")), most=True),
    Target("training waits for data", "fraction of an epoch", "epoch", 0.05, _largest(waiting_ratio), most=True),
    Target("--ctx 0 1 2 3 without GPU", "--ctx cpu, times its seconds", "devices", 1.1,
           _time_ratio(on_devices("0 1 2 3"), on_devices("cpu")), most=True),
    Target("evaluation's memory", "growth after a third", "memory", 0.02, _largest(memory_growth), most=True),
    Target("mxnetseg --help", "seconds", "start", 0.5, _help_seconds, most=True),
)


def compare(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Compare the runs of a report with the targets.

    Args:
        runs: of a report.

    Returns:
        rows of ``what``, ``against``, ``where``, ``value``, ``wanted``, ``most`` and ``reached``: one for each target
        and each run with its figure. A target that no run has a figure for has one row, in which ``where``,
        ``value`` and ``reached`` are None.
    """
    return [row for target in TARGETS for row in _rows(target, runs)]


def _rows(target: Target, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    row = {"what": target.what, "against": target.against, "wanted": target.wanted, "most": target.most}
    found = False
    for run in runs:
        if run["do"] != target.do or not target.where(run):
            continue
        value = target.value({r["name"]: r for r in run["results"] if r["failure"] is None})
        if value is not None:
            found = True
            yield {**row, "where": f"{run['network']} {run['batch']}x{run['size'][0]}x{run['size'][1]}",
                   "value": value, "reached": target.is_reached(value)}
    if not found:
        yield {**row, "where": None, "value": None, "reached": None}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of :func:`compare` as text."""
    lines = [f"{'':<27}{'against':<33}{'at':<26}{'reached':>8}{'target':>9}"]
    for row in rows:
        target = f"{'<=' if row['most'] else '>='} {row['wanted']:g}"
        value = "-" if row["value"] is None else f"{row['value']:.3f}" if row["most"] else f"{row['value']:.2f}"
        verdict = {True: "yes", False: "NO", None: "not measured"}[row["reached"]]
        lines.append(f"{row['what']:<27}{row['against']:<33}{row['where'] or '':<26}{value:>8}{target:>9}  {verdict}")
    return "\n".join(lines)


def side_by_side(runs: Sequence[Run]) -> str:
    """Return the runs of the task ``backends`` as tables of docs/performance.md, one for each precision.

    A cell has the milliseconds, and in brackets how many times as fast the backend is as the fastest rival.
    """
    runs = [run for run in runs if run["do"] == "backends"]
    return "\n\n".join(_precision_table([run for run in runs if run["precision"] == precision])
                       for precision in dict.fromkeys(run["precision"] for run in runs))


def _precision_table(runs: Sequence[Run]) -> str:
    found = [{r["name"]: r["median"] for r in run["results"] if r["failure"] is None} for run in runs]
    rival = [min((s for name, s in times.items() if not name.startswith(BACKENDS)), default=None) for times in found]
    best = [min((s for name, s in times.items() if name.startswith(BACKENDS)), default=None) for times in found]

    def cell(seconds: float | None, reference: float | None) -> str:
        ratio = f" ({reference / seconds:.2f})" if seconds and reference else ""
        return f"{1e3 * seconds:.0f}{ratio}" if seconds else "-"
    names = dict.fromkeys(name for run in runs for name in (r["name"] for r in run["results"]))
    rows = [[name, *(cell(times.get(name), reference) for times, reference in zip(found, rival))] for name in names]
    rows.append(["fastest backend over fastest rival",
                 *("-" if not b or not r else f"**{r / b:.2f}**" if r >= b else f"{r / b:.2f}"
                   for b, r in zip(best, rival))])
    shape = f"{runs[0]['batch']} x {runs[0]['size'][0]} x {runs[0]['size'][1]}"
    head = [f"{runs[0]['precision']}, {shape}, ms", *(run["network"] for run in runs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
