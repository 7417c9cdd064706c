"""Competitors of each benchmark task."""
from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from mxnetseg._memory import VARIABLE as KEEP_MEMORY

from .rounds import Column, Competitor, Measurement
from .settings import NETWORKS, TASKS, Setting, half_precisions

WITHOUT_PYTORCH = ("pidnet", "segformer")  # theirs.py has every other network in PyTorch
MXNETSEG = "MXNet, MXNetSeg's way"
GLUONCV = "GluonCV"
NNCF = "OpenVINO with NNCF int8"
BACKENDS = ("mxnet", "torch", "onnxruntime", "openvino")
# mxnetseg changes the memory allocation of the whole process; MXNet's own competitors run without this change
_UNTOUCHED = {KEEP_MEMORY: "0"}
# the same change for PyTorch, which trains a tenth faster with it: each rival runs at its best
_KEEPING = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1073741824:glibc.malloc.arena_max=1"}


@dataclass(frozen=True)
class BenchmarkTask:
    """Everything that is needed to run one setting.

    Attributes:
        title: one line that describes the measurement.
        competitors: in the order of the table.
        against: name of the competitor whose speed is 1 in the column ``speed``, or a function that chooses it among
            the results.
        columns: further columns of the table.
        threads: of each competitor; None: the user's choice.
        prepare: writes files into an empty folder; returns entries that are added to each competitor's task.
        equal: all competitors must have the same number of parameters.
    """

    title: str
    competitors: list[Competitor]
    against: str | Callable[[Sequence[Measurement]], str | None] | None
    columns: Sequence[Column] = ()
    threads: int | None = None
    prepare: Callable[[Path], dict[str, Any]] = field(default=lambda folder: {})
    equal: bool = True


def make_task(setting: Setting, *, torch: str | None = None) -> BenchmarkTask:
    """Return the task of a setting.

    Args:
        setting: what to measure.
        torch: a Python with PyTorch; None leaves PyTorch out.
    """
    return _MAKERS[setting.do](setting, torch)


def parameter_mismatch(results: Sequence[Measurement]) -> dict[str, int] | None:
    """Return the number of parameters of each competitor that ran, if the numbers differ; else None."""
    counts = {r.name: r.ready["parameters"] for r in results if r.failure is None}
    return counts if len(set(counts.values())) > 1 else None


# ---- names of competitors, and figures of their results ------------------------------------


def ours(form: str) -> str:
    """Return the name of our competitor in a form."""
    return f"ours, {form}"


def in_pytorch(precision: str, compiled: bool = False) -> str:
    """Return the form of our step that PyTorch computes."""
    return f"{precision} in PyTorch" + (", compiled" if compiled else "")


def whole(form: str) -> str:
    """Return the name of the form that evaluates images in one piece."""
    return f"{form} whole"


def pytorch(form: str, precision: str) -> str:
    """Return the name of PyTorch's competitor in a form and a precision."""
    return f"PyTorch, {form} {precision}"


def on_devices(ctx: str) -> str:
    """Return the name of the competitor that trains with a value of ``--ctx``."""
    return f"ours, --ctx {ctx}"


def waiting_ratio(result: dict[str, Any]) -> float:
    """Return the fraction of the time of its epochs in which training waited for the loader."""
    return sum(result["noted"]["waited_seconds"]) / sum(result["seconds"])


def memory_growth(result: dict[str, Any]) -> float | None:
    """Return by which fraction evaluation's memory grows after the first third of the rounds; None for one round."""
    held = result["noted"]["resident_mib"]
    return held[-1] / held[(len(held) - 1) // 3] - 1 if len(held) > 1 else None


# ---- one function a task -------------------------------------------------------------------


def _infer(setting: Setting, torch: str | None) -> BenchmarkTask:
    task = _options(setting)
    forms = [*([] if setting.finalists else ["plain"]), "float32", *half_precisions(), "int8"]
    competitors = [Competitor(MXNETSEG, _module("ours"), {**task, "form": "mxnetseg"}, _UNTOUCHED)]
    competitors += [Competitor(ours(form), _module("ours"), {**task, "form": form}) for form in forms]
    competitors += _pytorch_networks(task, torch, ["frozen", "compiled"] if setting.finalists else
                                     ["eager", "channels_last", "frozen", "compiled"])
    return BenchmarkTask(f"{TASKS['infer']}: {_network(setting)}, {_shape(setting)}", competitors, MXNETSEG,
                         [("images/s", lambda r: f"{setting.batch / r.median:.2f}")])


def _backends(setting: Setting, torch: str | None) -> BenchmarkTask:
    precision = setting.precision
    task = {**_options(setting), "precision": precision}

    def backend(name: str, form: str | None = None) -> Competitor:
        return Competitor(f"{name}, {form} {precision}" if form else f"{name} {precision}", _module("backends"),
                          {**task, "backend": name, "form": form}, _KEEPING if name == "torch" else {})
    competitors = [Competitor(f"mxnet {precision}", _module("ours"), {**task, "do": "infer", "form": precision})]
    if precision != "int8":
        competitors += [backend("torch", form) for form in ("channels_last", "compiled")]
    if precision != "bfloat16":  # ONNX Runtime does not compute it on processors
        competitors.append(backend("onnxruntime"))
    competitors.append(backend("openvino"))
    if precision == "int8" and torch and setting.network not in WITHOUT_PYTORCH:
        competitors.append(Competitor(NNCF, _script(torch, "theirs_openvino.py"), task))
    elif precision != "int8":
        competitors += [c for c in _pytorch_networks({**task, "do": "infer"}, torch, ["frozen", "compiled"])
                        if c.task["precision"] == precision]

    def prepare(folder):
        backbone, stride = NETWORKS[setting.network]
        return _in_new_process("backends", "prepare", folder, network=setting.network, backbone=backbone,
                               output_stride=stride, size=setting.size, batch=setting.batch, precision=precision)

    return BenchmarkTask(f"backends in {precision}: {_network(setting)}, {_shape(setting)}", competitors,
                         fastest_rival, [("difference", lambda r: f"{r.ready['difference']:.0e}"
                                          if "difference" in r.ready else "")], prepare=prepare)


def fastest_rival(results: Sequence[Measurement]) -> str | None:
    """Return the name of the fastest competitor that is not one of our backends; None if none ran."""
    rivals = [r for r in results if r.failure is None and not r.name.startswith(BACKENDS)]
    return min(rivals, key=lambda r: r.median).name if rivals else None


def _train(setting: Setting, torch: str | None) -> BenchmarkTask:
    task = _options(setting)
    competitors = [Competitor(MXNETSEG, _module("ours"), {**task, "form": "mxnetseg"}, _UNTOUCHED)]
    competitors += [Competitor(ours(form), _module("ours"), {**task, "form": form})
                    for form in ("float32", *half_precisions())]
    if torch and find_spec("torch"):
        competitors += [Competitor(ours(in_pytorch(precision, compiled)), _module("ours"), {
            **task, "form": precision, "backend": "torch", "compile": compiled}, _KEEPING)
            for precision in ("float32", *half_precisions()) for compiled in (False, True)]
    competitors += _pytorch_networks(task, torch, ["channels_last", "compiled"] if setting.finalists else
                                     ["eager", "channels_last", "compiled"])
    return BenchmarkTask(f"{TASKS['train']}: {_network(setting)}, {_shape(setting)}", competitors, MXNETSEG,
                         [("images/s", lambda r: f"{setting.batch / r.median:.2f}"),
                          ("MiB over import", lambda r: f"{r.peak_mib - r.ready['imported_mib']:.0f}")])


def _pytorch_networks(task: dict[str, Any], torch: str | None, forms: Sequence[str]) -> list[Competitor]:
    if torch is None or task["network"] in WITHOUT_PYTORCH:
        return []
    return [Competitor(pytorch(form, precision), _script(torch, "theirs.py"),
                       {**task, "form": form, "precision": precision}, _KEEPING)
            for precision in ("float32", *half_precisions()) for form in forms]


def _epoch(setting: Setting, torch: str | None) -> BenchmarkTask:
    crop = _crop(setting)
    task = {**_options(setting), "base": setting.size[1], "crop": crop}
    competitors = [Competitor(MXNETSEG, _module("epoch"), {**task, "form": "mxnetseg"}, _UNTOUCHED)]
    competitors += [Competitor(ours(form), _module("epoch"), {**task, "form": form})
                    for form in ("float32", *half_precisions())]
    if torch:
        competitors += [Competitor(pytorch("channels_last", precision), _script(torch, "theirs_data.py"),
                                   {**task, "form": "channels_last", "precision": precision}, _KEEPING)
                        for precision in ("float32", *half_precisions())]
    return BenchmarkTask(_epoch_title(setting, crop), competitors, MXNETSEG, [
        ("images/s", lambda r: f"{median(r.noted['images']) / r.median:.2f}"),
        ("waited", lambda r: f"{waiting_ratio(vars(r)):.1%}")],
        prepare=lambda folder: _make_images(folder, [setting.size] * setting.images, setting.kind))


def _devices(setting: Setting, torch: str | None) -> BenchmarkTask:
    crop = _crop(setting)
    task = {**_options(setting), "base": setting.size[1], "crop": crop, "form": "float32"}
    competitors = [Competitor(on_devices(ctx), _module("epoch"), {**task, "ctx": ctx.split()},
                              {"CUDA_VISIBLE_DEVICES": ""}) for ctx in ("cpu", "0 1 2 3")]
    return BenchmarkTask(_epoch_title(setting, crop), competitors, on_devices("cpu"),
                         prepare=lambda folder: _make_images(folder, [setting.size] * setting.images, setting.kind))


def _loader(setting: Setting, torch: str | None) -> BenchmarkTask:
    task = {"do": "loading", "base": setting.size[1], "crop": _crop(setting), "batch": setting.batch}
    competitors = [Competitor(GLUONCV, _module("loading"), {**task, "form": "gluoncv"}, _UNTOUCHED),
                   Competitor(ours("uint8"), _module("loading"), {**task, "form": "ours"}),
                   Competitor(ours("float32"), _module("loading"), {**task, "form": "float"})]
    if torch:
        competitors += [
            Competitor("torchvision, tensors", _script(torch, "theirs_data.py"), task),
            Competitor("torchvision, Pillow", _script(torch, "theirs_data.py"), {**task, "pillow": True})]
    one_thread = {"MXNET_CPU_WORKER_NTHREADS": "1"}
    title = f"{TASKS['loader']} with one thread: {setting.images} {setting.kind} of {setting.size[0]} x " \
            f"{setting.size[1]}, scaled by 0.5 to 2, crops of {task['crop']} x {task['crop']}"
    return BenchmarkTask(
        title, [replace(c, environment={**one_thread, **c.environment}) for c in competitors], GLUONCV,
        [("images/s", lambda r: f"{median(r.noted['images']) / r.median:.1f}"),
         ("CPU ms each", lambda r: f"{1e3 * median(r.noted['cpu_seconds']) / median(r.noted['images']):.0f}")],
        threads=1, prepare=lambda folder: _make_images(folder, [setting.size] * setting.images, setting.kind),
        equal=False)


def _evaluate(setting: Setting, torch: str | None) -> BenchmarkTask:
    backbone, stride = NETWORKS[setting.network]
    task = {"do": "evaluate", "base": setting.size[1], "crop": _crop(setting)}
    competitors = [Competitor(GLUONCV, _module("evaluation"), {**task, "form": "gluoncv"}, _UNTOUCHED)]
    if setting.whole:
        # The default of `eval --ms`: no overlapping windows. A size is compiled when it comes for the second time, so
        # full speed is reached with the third image. With windows, it is reached within the first.
        competitors.append(Competitor(ours(whole(setting.whole)), _module("evaluation"),
                                      {**task, "form": setting.whole, "mode": "whole", "warm_up": 2}))
    else:
        competitors += [Competitor(ours(form), _module("evaluation"), {**task, "form": form})
                        for form in ("float32", *half_precisions(), "int8")]

    def prepare(folder):
        return _in_new_process("evaluation", "prepare", folder, network=setting.network, backbone=backbone,
                               output_stride=stride, size=setting.size, images=setting.rounds)

    return BenchmarkTask(f"{TASKS['evaluate']}, in {'one piece' if setting.whole else 'windows'}: {_network(setting)}, "
                         f"{setting.size[0]} x {setting.size[1]}", competitors, GLUONCV,
                         [("mIoU", lambda r: f"{r.ended['miou']:.2f}")], prepare=prepare)


def _memory(setting: Setting, torch: str | None) -> BenchmarkTask:
    height, width = setting.size
    # more sizes than graphs are held for, so that some graphs are evicted and compiled again
    sizes = [(height + 8 * (i % 3), width + 8 * (i % 4)) for i in range(setting.images)]
    competitors = [Competitor(ours(form), _module("memory"), {**_options(setting), "form": form})
                   for form in ("float32", *half_precisions())]
    columns = [(f"after {(i + 1) * setting.images}", lambda r, i=i: f"{r.noted['resident_mib'][i]:.0f}")
               for i in range(setting.rounds)]
    title = f"{TASKS['memory']}: {_network(setting)}, twelve sizes from {height} x {width} on; MiB"
    if setting.rounds > 1:
        columns.append(("growth", lambda r: f"{memory_growth(vars(r)):.1%}"))
    return BenchmarkTask(title, competitors, None, columns,
                         prepare=lambda folder: _make_images(folder, sizes, setting.kind))


def _start(setting: Setting, torch: str | None) -> BenchmarkTask:
    once = {**_options(setting), "do": "infer", "warm_up": 0}

    def first_image(command, **options):
        return [*command, json.dumps({**once, **options})], "\n"
    code = [sys.executable, "-c"]
    rival = "first image, MXNetSeg's"
    commands = {  # name -> command and its standard input
        "import mxnet, gluoncv": ([*code, "import mxnetseg, mxnet, gluoncv"], ""),  # mxnetseg makes mxnet importable
        "mxnetseg --help": ([sys.executable, "-m", "mxnetseg", "--help"], ""),
        "import get_model": ([*code, "from mxnetseg.models import get_model"], "")}
    if torch:
        commands["import torch, torchvision"] = ([torch, "-c", (
            f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); "
            "import theirs_data; theirs_data.import_torchvision()")], "")
    commands[rival] = first_image(_module("ours"), form="mxnetseg")
    for form in ("float32", *half_precisions()):
        commands[f"first image, {ours(form)}"] = first_image(_module("ours"), form=form)
    if torch and setting.network not in WITHOUT_PYTORCH:
        commands["first image, PyTorch"] = first_image(_script(torch, "theirs.py"), form="channels_last",
                                                       precision="float32")

    competitors = [Competitor(name, _module("start"), {"command": command, "input": text},
                              _UNTOUCHED if name == rival else {}) for name, (command, text) in commands.items()]
    return BenchmarkTask(f"{TASKS['start']}; the first image: {_network(setting)}, {_shape(setting)}", competitors,
                         "import mxnet, gluoncv", equal=False)


_MAKERS = {"infer": _infer, "backends": _backends, "train": _train, "epoch": _epoch, "devices": _devices,
           "loader": _loader, "evaluate": _evaluate, "memory": _memory, "start": _start}


# ---- helpers -------------------------------------------------------------------------------


def _options(setting: Setting) -> dict[str, Any]:
    backbone, stride = NETWORKS[setting.network]
    return {"do": setting.do, "network": setting.network, "backbone": backbone, "output_stride": stride,
            "size": list(setting.size), "batch": setting.batch, "warm_up": setting.warm_up}


def _network(setting: Setting) -> str:
    backbone, stride = NETWORKS[setting.network]
    return setting.network + (f" on {backbone}" if backbone else "") + (f", output stride {stride}" if stride else "")


def _shape(setting: Setting) -> str:
    return f"{setting.batch} x 3 x {setting.size[0]} x {setting.size[1]}"


def _epoch_title(setting: Setting, crop: int) -> str:
    return f"{TASKS[setting.do]}: {_network(setting)}, {setting.images} images of " \
           f"{setting.size[0]} x {setting.size[1]}, batches of {setting.batch} crops of {crop} x {crop}"


def _crop(setting: Setting) -> int:
    return max(setting.size[0] * 3 // 4 // 32 * 32, 32)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}"]


def _script(torch: str, name: str) -> list[str]:
    return [torch, str(Path(__file__).with_name(name))]


def _make_images(folder: Path, sizes: Sequence[tuple[int, int]], kind: str) -> dict[str, Any]:
    return {"data": str(_in_new_process("images", "make_images", folder / "images", sizes, kind=kind))}


def _in_new_process(module: str, function: str, *args, **kwargs):
    """Return the result of a function of this package, called in a new process.

    So this process, whose settings the competitors inherit, stays small and never imports MXNet.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_call, module, function, args, kwargs).result()


def _call(module: str, function: str, args: Sequence[Any], kwargs: dict[str, Any]):
    return getattr(import_module(f".{module}", __package__), function)(*args, **kwargs)
