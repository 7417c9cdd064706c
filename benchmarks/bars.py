"""What speed is to be reached, and what a report of the benchmark says of it."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from .tasks import GLUONCV, MXNETSEG, growth, on, ours, waited, whole

Run = Mapping[str, Any]
Results = Dict[str, Dict[str, Any]]  # of those who took part, by name


@dataclass(frozen=True)
class Bar:
    """One thing to be reached.

    Attributes:
        what, against: for the table.
        do: the task whose runs say something of it.
        wanted: the number.
        value: what a run reached, from its results; None where it does not say.
        most: ``wanted`` is the most, not the least.
        where: which runs of the task count.
    """

    what: str
    against: str
    do: str
    wanted: float
    value: Callable[[Results], Optional[float]]
    most: bool = False
    where: Callable[[Run], bool] = lambda run: True

    def reached(self, value: float) -> bool:
        return value <= self.wanted if self.most else value >= self.wanted


def _faster(name: str, rival: Callable[[Results], Optional[str]]) -> Callable[[Results], Optional[float]]:
    """How many times as fast ``name`` is as its rival."""
    def value(results):
        other = rival(results)
        return results[other]["median"] / results[name]["median"] if name in results and other in results else None
    return value


def _slower(name: str, rival: str) -> Callable[[Results], Optional[float]]:
    """How many times the rival's seconds ``name`` takes."""
    def value(results):
        return results[name]["median"] / results[rival]["median"] if name in results and rival in results else None
    return value


def _pytorch(precision: str) -> Callable[[Results], Optional[str]]:
    """PyTorch's fastest form in a precision."""
    def name(results):
        names = [n for n in results if n.startswith("PyTorch") and n.endswith(precision)]
        return min(names, key=lambda n: results[n]["median"], default=None)
    return name


def _named(name: str) -> Callable[[Results], Optional[str]]:
    return lambda results: name


def _peak(precision: str) -> Callable[[Results], Optional[float]]:
    def value(results):
        other = _pytorch(precision)(results)
        mine = results.get(ours(precision))
        return mine["peak_mib"] / results[other]["peak_mib"] if mine and other else None
    return value


def _worst(number: Callable[[Dict[str, Any]], Optional[float]]) -> Callable[[Results], Optional[float]]:
    """The largest number among our forms."""
    def value(results):
        numbers = [number(r) for name, r in results.items() if name.startswith("ours")]
        return max((n for n in numbers if n is not None), default=None)
    return value


def _miou_apart(form: str) -> Callable[[Results], Optional[float]]:
    def value(results):
        mine, theirs = results.get(ours(form)), results.get(GLUONCV)
        return abs(mine["ended"]["miou"] - theirs["ended"]["miou"]) if mine and theirs else None
    return value


def _help(results: Results) -> Optional[float]:
    return results["mxnetseg --help"]["median"] if "mxnetseg --help" in results else None


def _one_of_512(run: Run) -> bool:
    return run["size"] == [512, 512] and run["batch"] == 1


BEST = "PyTorch's best, times as fast"
BARS: Sequence[Bar] = (
    Bar("inference float32", BEST, "infer", 1.0, _faster(ours("float32"), _pytorch("float32")), where=_one_of_512),
    Bar("inference bfloat16", BEST, "infer", 1.0, _faster(ours("bfloat16"), _pytorch("bfloat16")), where=_one_of_512),
    Bar("inference bfloat16", "MXNetSeg's way, times", "infer", 4.0, _faster(ours("bfloat16"), _named(MXNETSEG)),
        where=_one_of_512),
    Bar("inference int8", "our bfloat16, times", "infer", 1.8, _faster(ours("int8"), _named(ours("bfloat16"))),
        where=_one_of_512),
    Bar("training float32", BEST, "train", 1.0, _faster(ours("float32"), _pytorch("float32"))),
    Bar("training bfloat16", BEST, "train", 0.7, _faster(ours("bfloat16"), _pytorch("bfloat16"))),
    Bar("training bfloat16", "MXNetSeg's way, times", "train", 3.0, _faster(ours("bfloat16"), _named(MXNETSEG))),
    Bar("training peak float32", "PyTorch's fastest, times its MiB", "train", 1.0, _peak("float32"), most=True),
    Bar("training peak bfloat16", "PyTorch's fastest, times its MiB", "train", 1.0, _peak("bfloat16"), most=True),
    Bar("evaluation float32", "GluonCV, times as fast", "evaluate", 4.0, _faster(ours("float32"), _named(GLUONCV))),
    Bar("evaluation bfloat16", "GluonCV, times as fast", "evaluate", 10.0, _faster(ours("bfloat16"), _named(GLUONCV))),
    Bar("evaluation float32", "GluonCV, mIoU apart", "evaluate", 0.05, _miou_apart("float32"), most=True),
    *(Bar(f"evaluation {whole(form)}", "GluonCV, times as fast", "evaluate", wanted,
          _faster(ours(whole(form)), _named(GLUONCV))) for form, wanted in (("float32", 4.0), ("bfloat16", 10.0))),
    Bar(f"evaluation {whole('float32')}", "GluonCV, mIoU apart", "evaluate", 0.05, _miou_apart(whole("float32")),
        most=True),
    Bar("training waits for data", "share of an epoch", "epoch", 0.05, _worst(waited), most=True),
    Bar("--ctx 0 1 2 3 without GPU", "--ctx cpu, times its seconds", "devices", 1.1,
        _slower(on("0 1 2 3"), on("cpu")), most=True),
    Bar("evaluation's memory", "growth after a third", "memory", 0.02, _worst(growth), most=True),
    Bar("mxnetseg --help", "seconds", "start", 0.5, _help, most=True),
)


def compare(runs: Sequence[Run]) -> List[Dict[str, Any]]:
    """What was reached of every bar: a row for each run that says something of it, or one without ``value``.

    Args:
        runs: of a report.

    Returns:
        rows of ``what``, ``against``, ``where``, ``value``, ``wanted``, ``most`` and ``reached``; ``where``,
        ``value`` and ``reached`` are None in a row of what was not measured.
    """
    return [row for bar in BARS for row in _rows(bar, runs)]


def _rows(bar: Bar, runs: Sequence[Run]) -> Iterator[Dict[str, Any]]:
    row = {"what": bar.what, "against": bar.against, "wanted": bar.wanted, "most": bar.most}
    found = False
    for run in runs:
        if run["do"] != bar.do or not bar.where(run):
            continue
        value = bar.value({r["name"]: r for r in run["results"] if r["failure"] is None})
        if value is not None:
            found = True
            yield {**row, "where": f"{run['network']} {run['batch']}x{run['size'][0]}x{run['size'][1]}",
                   "value": value, "reached": bar.reached(value)}
    if not found:
        yield {**row, "where": None, "value": None, "reached": None}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of :func:`compare` as text."""
    lines = [f"{'':<27}{'against':<33}{'at':<26}{'reached':>8}{'bar':>9}"]
    for row in rows:
        bar = f"{'<=' if row['most'] else '>='} {row['wanted']:g}"
        value = "-" if row["value"] is None else f"{row['value']:.3f}" if row["most"] else f"{row['value']:.2f}"
        verdict = {True: "yes", False: "NO", None: "not measured"}[row["reached"]]
        lines.append(f"{row['what']:<27}{row['against']:<33}{row['where'] or '':<26}{value:>8}{bar:>9}  {verdict}")
    return "\n".join(lines)
