"""Who competes at what: each task of the benchmark as parts, which the referee runs one after the other."""
from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from mxnetseg._memory import VARIABLE as KEEP_MEMORY
from mxnetseg._processor import multiplies_bfloat16

from .turns import Column, Competitor, Measured

# name -> backbone and output stride
NETWORKS = {"fcn": ("resnet18", 8), "bisenet": ("resnet18", 32), "pspnet": ("resnet50", 8),
            "deeplabv3plus": ("resnet50", 8), "ddrnet": (None, None), "pidnet": (None, None),
            "segformer": ("mit_b0", None)}
NO_TWIN = ("pidnet", "segformer")  # of all others theirs.py has one in PyTorch
TASKS = {
    "infer": "pictures through a network", "train": "one training step",
    "epoch": "one training epoch of the whole program, with its loader",
    "devices": "the same on --ctx 0 1 2 3 and on --ctx cpu, without a GPU", "loader": "reading training pictures",
    "evaluate": "one picture at six scales and mirrored, from file to score",
    "memory": "what evaluation holds after many pictures", "start": "from the start of a program to its end"}
MXNETSEG = "MXNet, MXNetSeg's way"
GLUONCV = "GluonCV"
# what importing mxnetseg does to the whole of MXNet is ours, not our rivals'
_UNTOUCHED = {KEEP_MEMORY: "0"}
# what _memory.py does to MXNet; a tenth faster training in PyTorch, too, which is to compete at its best
_KEEPING = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1073741824:glibc.malloc.arena_max=1"}


@dataclass(frozen=True)
class Setting:
    """One part of a run, as it is chosen.

    Attributes:
        do: a key of :data:`TASKS`.
        network: a key of :data:`NETWORKS`.
        size: height and width of the pictures ; what is cropped from files is a square of 3/4 of the height.
        batch: pictures at once.
        rounds: turns of each competitor.
        warm_up: turns before, which do not count.
        pictures: in one turn, where a task reads files.
        finalists: only the forms that were the fastest wherever all were measured, for sizes that take long.
        kind: of the files that are read.
        whole: the precision in which pictures are evaluated in one piece; None: in windows, in all precisions.
    """

    do: str
    network: str = "fcn"
    size: Tuple[int, int] = (512, 512)
    batch: int = 1
    rounds: int = 9
    warm_up: int = 3
    pictures: int = 0
    finalists: bool = False
    kind: str = "png"
    whole: Optional[str] = None


@dataclass(frozen=True)
class Part:
    """What the referee needs to run a setting.

    Attributes:
        title: one line on what is done.
        competitors: in the order of the table.
        against: whose time is 1 in the column ``speed``.
        columns: what the table shows besides.
        threads: of each competitor; None: the user's choice.
        prepare: writes files into an empty folder before; returns what the tasks say of them.
        equal: all must have the same number of parameters.
    """

    title: str
    competitors: List[Competitor]
    against: Optional[str]
    columns: Sequence[Column] = ()
    threads: Optional[int] = None
    prepare: Callable[[Path], Dict[str, Any]] = field(default=lambda folder: {})
    equal: bool = True


# what each task takes where the user says nothing
DEFAULTS = {
    "infer": Setting("infer"),
    "train": Setting("train", batch=2),
    "epoch": Setting("epoch", size=(360, 480), batch=8, rounds=5, warm_up=1, pictures=64, kind="jpg"),
    "devices": Setting("devices", size=(180, 240), batch=8, rounds=3, warm_up=1, pictures=16, kind="jpg"),
    "loader": Setting("loader", size=(1024, 2048), batch=4, rounds=7, pictures=8),
    "evaluate": Setting("evaluate", size=(1024, 2048), rounds=3),
    "memory": Setting("memory", size=(96, 128), rounds=6, pictures=50),
    "start": Setting("start", rounds=7),
}


def settings(do: str, *, networks: Sequence[str], size: Optional[Tuple[int, int]] = None,
             batch: Optional[int] = None, rounds: Optional[int] = None) -> Iterator[Setting]:
    """The parts of one task."""
    chosen = {key: value for key, value in (("size", size), ("batch", batch), ("rounds", rounds)) if value is not None}
    for network in networks:
        setting = replace(DEFAULTS[do], network=network, **chosen)
        if do == "loader":
            yield from (replace(setting, kind=kind) for kind in ("png", "jpg"))
            return  # it has no network
        yield setting
        if do == "evaluate":  # parts of their own: six scales take twelve GiB, which two at once may not find
            yield from (replace(setting, rounds=rounds or 1, whole=form) for form in ("float32", *halves()))


def the_whole(networks: Sequence[str]) -> Iterator[Setting]:
    """All that there is to know of a machine, in about an hour on two cores."""
    yield DEFAULTS["start"]
    infer, train = replace(DEFAULTS["infer"], rounds=7), replace(DEFAULTS["train"], rounds=5, warm_up=2)
    for network in networks:
        deep = NETWORKS[network][0] == "resnet50"
        large = replace(infer, network=network, rounds=3, warm_up=2, finalists=True)
        yield replace(infer, network=network)
        yield replace(large, size=(1024, 2048))
        yield replace(large, batch=4 if deep else 8)
        if deep:  # all competitors at full size would not fit into 24 GiB
            yield replace(train, network=network, size=(256, 256), finalists=True)
        else:
            yield replace(train, network=network)
            yield replace(train, network=network, size=(256, 256), batch=8)
    yield replace(DEFAULTS["epoch"], rounds=3, pictures=40)
    yield DEFAULTS["devices"]
    yield from settings("evaluate", networks=networks[:1])
    yield DEFAULTS["memory"]
    yield from settings("loader", networks=networks)


def the_quick(networks: Sequence[str]) -> Iterator[Setting]:
    """A little of everything, in some minutes."""
    yield replace(DEFAULTS["start"], rounds=3)
    for network in networks:
        yield replace(DEFAULTS["infer"], network=network, rounds=3, finalists=True)
        yield replace(DEFAULTS["train"], network=network, rounds=3, warm_up=2, size=(256, 256), finalists=True)
    yield replace(DEFAULTS["epoch"], rounds=2, pictures=16)
    yield replace(DEFAULTS["devices"], rounds=2)
    yield from settings("evaluate", networks=networks[:1], rounds=1, size=(256, 512))
    yield replace(DEFAULTS["memory"], pictures=20)
    yield from settings("loader", networks=networks, rounds=2)


def make_part(setting: Setting, *, torch: Optional[str] = None) -> Part:
    """The competitors of a setting.

    Args:
        setting: what to measure.
        torch: a Python that has PyTorch; None leaves it out.
    """
    return _MAKERS[setting.do](setting, torch)


def halves() -> List[str]:
    """The precisions besides float32 that this processor multiplies; emulated ones are slower on both sides."""
    return ["bfloat16"] if multiplies_bfloat16() else []


def ours(what: str) -> str:
    """The name of our competitor in a form."""
    return f"ours, {what}"


def whole(form: str) -> str:
    """The form that evaluates pictures in one piece."""
    return f"{form} whole"


def pytorch(form: str, precision: str) -> str:
    """The name of PyTorch's competitor in a form and a precision."""
    return f"PyTorch, {form} {precision}"


def _task(setting: Setting) -> Dict[str, Any]:
    backbone, stride = NETWORKS[setting.network]
    return {"do": setting.do, "network": setting.network, "backbone": backbone, "output_stride": stride,
            "size": list(setting.size), "batch": setting.batch, "warm_up": setting.warm_up}


def _network(setting: Setting) -> str:
    backbone, stride = NETWORKS[setting.network]
    return setting.network + (f" on {backbone}" if backbone else "") + (f", output stride {stride}" if stride else "")


def _shape(setting: Setting) -> str:
    return f"{setting.batch} x 3 x {setting.size[0]} x {setting.size[1]}"


def _crop(setting: Setting) -> int:
    return max(setting.size[0] * 3 // 4 // 32 * 32, 32)


def _module(name: str) -> List[str]:
    return [sys.executable, "-m", f"benchmarks.{name}"]


def _script(torch: str, name: str) -> List[str]:
    return [torch, str(Path(__file__).with_name(name))]


def _infer(setting: Setting, torch: Optional[str]) -> Part:
    task = _task(setting)
    forms = [*([] if setting.finalists else ["plain"]), "float32", *halves(), "int8"]
    found = [Competitor(MXNETSEG, _module("ours"), {**task, "form": "mxnetseg"}, _UNTOUCHED)]
    found += [Competitor(ours(form), _module("ours"), {**task, "form": form}) for form in forms]
    found += _theirs(task, torch, ["frozen", "compiled"] if setting.finalists else
                     ["eager", "channels_last", "frozen", "compiled"])
    return Part(f"{TASKS['infer']}: {_network(setting)}, {_shape(setting)}", found, MXNETSEG,
                [("pictures/s", lambda r: f"{setting.batch / r.median:.2f}")])


def _train(setting: Setting, torch: Optional[str]) -> Part:
    task = _task(setting)
    found = [Competitor(MXNETSEG, _module("ours"), {**task, "form": "mxnetseg"}, _UNTOUCHED)]
    found += [Competitor(ours(form), _module("ours"), {**task, "form": form}) for form in ("float32", *halves())]
    found += _theirs(task, torch, ["channels_last", "compiled"] if setting.finalists else
                     ["eager", "channels_last", "compiled"])
    return Part(f"{TASKS['train']}: {_network(setting)}, {_shape(setting)}", found, MXNETSEG,
                [("pictures/s", lambda r: f"{setting.batch / r.median:.2f}"),
                 ("MiB over import", lambda r: f"{r.peak_mib - r.ready['imported_mib']:.0f}")])


def _theirs(task: Dict[str, Any], torch: Optional[str], forms: Sequence[str]) -> List[Competitor]:
    return [Competitor(pytorch(form, precision), _script(torch, "theirs.py"),
                       {**task, "form": form, "precision": precision}, _KEEPING)
            for precision in ("float32", *halves()) for form in forms
            ] if torch and task["network"] not in NO_TWIN else []


def _epoch(setting: Setting, torch: Optional[str]) -> Part:
    crop = _crop(setting)
    task = {**_task(setting), "base": setting.size[1], "crop": crop}
    found = [Competitor(MXNETSEG, _module("epoch"), {**task, "form": "mxnetseg"}, _UNTOUCHED)]
    found += [Competitor(ours(form), _module("epoch"), {**task, "form": form}) for form in ("float32", *halves())]
    if torch:
        found += [Competitor(pytorch("channels_last", precision), _script(torch, "theirs_data.py"),
                             {**task, "form": "channels_last", "precision": precision}, _KEEPING)
                  for precision in ("float32", *halves())]
    title = f"{TASKS['epoch']}: {_network(setting)}, {setting.pictures} pictures of " \
            f"{setting.size[0]} x {setting.size[1]}, batches of {setting.batch} crops of {crop} x {crop}"
    return Part(title, found, MXNETSEG, [
        ("pictures/s", lambda r: f"{median(r.noted['pictures']) / r.median:.2f}"),
        ("waited", lambda r: f"{waited(vars(r)):.1%}")],
        prepare=lambda folder: _pictures(folder, [setting.size] * setting.pictures, setting.kind))


def _devices(setting: Setting, torch: Optional[str]) -> Part:
    crop = _crop(setting)
    task = {**_task(setting), "base": setting.size[1], "crop": crop, "form": "float32"}
    found = [Competitor(on(ctx), _module("epoch"), {**task, "ctx": ctx.split()}, {"CUDA_VISIBLE_DEVICES": ""})
             for ctx in ("cpu", "0 1 2 3")]
    title = f"{TASKS['devices']}: {_network(setting)}, {setting.pictures} images of " \
            f"{setting.size[0]} x {setting.size[1]}, batches of {setting.batch} crops of {crop} x {crop}"
    return Part(title, found, on("cpu"),
                prepare=lambda folder: _pictures(folder, [setting.size] * setting.pictures, setting.kind))


def on(ctx: str) -> str:
    """The name of the competitor that trains on some devices."""
    return f"ours, --ctx {ctx}"


def waited(result: Dict[str, Any]) -> float:
    """The share of its epochs in which training waited for the loader."""
    return sum(result["noted"]["waited_seconds"]) / sum(result["seconds"])


def _loader(setting: Setting, torch: Optional[str]) -> Part:
    task = {"do": "loading", "base": setting.size[1], "crop": _crop(setting),
            "batch": setting.batch}
    found = [Competitor(GLUONCV, _module("loading"), {**task, "form": "gluoncv"}, _UNTOUCHED),
             Competitor(ours("uint8"), _module("loading"), {**task, "form": "ours"}),
             Competitor(ours("float32"), _module("loading"), {**task, "form": "float"})]
    if torch:
        found += [Competitor("torchvision, tensors", _script(torch, "theirs_data.py"), task),
                  Competitor("torchvision, Pillow", _script(torch, "theirs_data.py"), {**task, "pillow": True})]
    one = {"MXNET_CPU_WORKER_NTHREADS": "1"}
    title = f"{TASKS['loader']} with one thread: {setting.pictures} {setting.kind} of {setting.size[0]} x " \
            f"{setting.size[1]}, scaled by 0.5 to 2, crops of {task['crop']} x {task['crop']}"
    return Part(title, [replace(c, environment={**one, **c.environment}) for c in found], GLUONCV, [
        ("pictures/s", lambda r: f"{median(r.noted['pictures']) / r.median:.1f}"),
        ("CPU ms each", lambda r: f"{1e3 * median(r.noted['cpu_seconds']) / median(r.noted['pictures']):.0f}")],
        threads=1, prepare=lambda folder: _pictures(folder, [setting.size] * setting.pictures, setting.kind),
        equal=False)


def _evaluate(setting: Setting, torch: Optional[str]) -> Part:
    backbone, stride = NETWORKS[setting.network]
    task = {"do": "evaluate", "base": setting.size[1], "crop": _crop(setting)}
    found = [Competitor(GLUONCV, _module("evaluation"), {**task, "form": "gluoncv"}, _UNTOUCHED)]
    if setting.whole:
        # What `eval --ms` does by default, without windows that overlap. Each of its sizes is compiled when it comes
        # again, so it is at its speed from the third picture on; one of windows is in the first.
        found.append(Competitor(ours(whole(setting.whole)), _module("evaluation"),
                                {**task, "form": setting.whole, "mode": "whole", "warm_up": 2}))
    else:
        found += [Competitor(ours(form), _module("evaluation"), {**task, "form": form})
                  for form in ("float32", *halves(), "int8")]

    def prepare(folder):
        return _apart("evaluation", "prepare", folder, network=setting.network, backbone=backbone,
                      output_stride=stride, size=setting.size, pictures=setting.rounds)

    return Part(f"{TASKS['evaluate']}, in {'one piece' if setting.whole else 'windows'}: {_network(setting)}, "
                f"{setting.size[0]} x {setting.size[1]}", found, GLUONCV,
                [("mIoU", lambda r: f"{r.ended['miou']:.2f}")], prepare=prepare)


def _memory(setting: Setting, torch: Optional[str]) -> Part:
    height, width = setting.size
    # more sizes than graphs are held for, so that some are given up and made again
    sizes = [(height + 8 * (i % 3), width + 8 * (i % 4)) for i in range(setting.pictures)]
    found = [Competitor(ours(form), _module("memory"), {**_task(setting), "form": form})
             for form in ("float32", *halves())]
    columns = [(f"after {(i + 1) * setting.pictures}", lambda r, i=i: f"{r.noted['resident_mib'][i]:.0f}")
               for i in range(setting.rounds)]
    title = f"{TASKS['memory']}: {_network(setting)}, twelve sizes from {height} x {width} on; MiB"
    if setting.rounds > 1:
        columns.append(("growth", lambda r: f"{growth(vars(r)):.1%}"))
    return Part(title, found, None, columns,
                prepare=lambda folder: _pictures(folder, sizes, setting.kind))


def growth(result: Dict[str, Any]) -> Optional[float]:
    """How much more evaluation holds at the end than after the first third; None of one turn, which does not say."""
    held = result["noted"]["resident_mib"]
    return held[-1] / held[(len(held) - 1) // 3] - 1 if len(held) > 1 else None


def _start(setting: Setting, torch: Optional[str]) -> Part:
    once = {**_task(setting), "do": "infer", "warm_up": 0}
    code = [sys.executable, "-c"]
    commands = {
        "import mxnet, gluoncv": ([*code, "import mxnetseg, mxnet, gluoncv"], ""),  # ours mends NumPy for it
        "mxnetseg --help": ([sys.executable, "-m", "mxnetseg", "--help"], ""),
        "import get_model": ([*code, "from mxnetseg.models import get_model"], "")}
    if torch:
        commands["import torch, torchvision"] = ([torch, "-c", (
            f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); "
            "import theirs_data; theirs_data.import_torchvision()")], "")

    def cold(command, **task):
        return [*command, json.dumps({**once, **task})], "\n"
    rival = "first picture, MXNetSeg's"
    commands[rival] = cold(_module("ours"), form="mxnetseg")
    for form in ("float32", *halves()):
        commands[f"first picture, {ours(form)}"] = cold(_module("ours"), form=form)
    if torch:
        commands["first picture, PyTorch"] = cold(_script(torch, "theirs.py"), form="channels_last",
                                                  precision="float32")
    found = [Competitor(name, _module("start"), {"command": command, "input": text},
                        _UNTOUCHED if name == rival else {}) for name, (command, text) in commands.items()]
    return Part(f"{TASKS['start']}; the first picture: {_network(setting)}, {_shape(setting)}", found,
                "import mxnet, gluoncv", equal=False)


def _pictures(folder: Path, sizes: Sequence[Tuple[int, int]], kind: str) -> Dict[str, Any]:
    return {"data": str(_apart("pictures", "make_pictures", folder / "pictures", sizes, kind=kind))}


def _apart(module: str, function: str, *args, **kwargs):
    """A result of ``benchmarks``, from a process of its own: the referee, whose settings all competitors inherit,
    stays small and never imports MXNet."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_call, module, function, args, kwargs).result()


def _call(module: str, function: str, args: Sequence[Any], kwargs: Dict[str, Any]):
    return getattr(import_module(f".{module}", __package__), function)(*args, **kwargs)


_MAKERS = {"infer": _infer, "train": _train, "epoch": _epoch, "devices": _devices, "loader": _loader,
           "evaluate": _evaluate, "memory": _memory, "start": _start}


def misfits(results: Sequence[Measured]) -> Optional[Dict[str, int]]:
    """The numbers of parameters of those who took part, if they differ; else None."""
    counts = {r.name: r.ready["parameters"] for r in results if r.failure is None}
    return counts if len(set(counts.values())) > 1 else None
