"""Measurements that the benchmark can make: networks, tasks, and the sets of ``--do all``."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mxnetseg._processor import multiplies_bfloat16

# name -> backbone and output stride
NETWORKS = {"fcn": ("resnet18", 8), "bisenet": ("resnet18", 32), "pspnet": ("resnet50", 8),
            "deeplabv3plus": ("resnet50", 8), "ddrnet": (None, None), "pidnet": (None, None),
            "segformer": ("mit_b0", None)}
# those of `mxnetseg benchmark --backends`
COMPARED = ("fcn", "bisenet", "pspnet", "deeplabv3plus")
TASKS = {
    "infer": "inference", "backends": "inference with each backend, precision by precision",
    "train": "one training step",
    "epoch": "one training epoch of the whole program, with its loader",
    "devices": "the same with --ctx 0 1 2 3 and with --ctx cpu, without a GPU", "loader": "reading training images",
    "evaluate": "one image at six scales and flipped, from file to score",
    "memory": "memory that evaluation holds after many images", "start": "programs from start to end"}


@dataclass(frozen=True)
class Setting:
    """One measurement as the user chooses it.

    Attributes:
        do: key of :data:`TASKS`.
        network: key of :data:`NETWORKS`.
        size: height and width of the images. Crops of files are squares of 3/4 of the height.
        batch: images at once.
        rounds: timed runs of each competitor.
        warm_up: runs before them that are not timed.
        images: number of images that one run reads, in tasks that read files.
        finalists: measure only the forms that were fastest when all were measured, for sizes that take long.
        kind: type of the image files.
        whole: precision in which images are evaluated in one piece; None: in windows, in all precisions.
        precision: of all competitors, where backends are compared.
    """

    do: str
    network: str = "fcn"
    size: tuple[int, int] = (512, 512)
    batch: int = 1
    rounds: int = 9
    warm_up: int = 3
    images: int = 0
    finalists: bool = False
    kind: str = "png"
    whole: str | None = None
    precision: str | None = None


# task -> its setting where the user gives no other values
DEFAULTS = {
    "infer": Setting("infer"),
    "backends": Setting("backends", rounds=5, warm_up=2, precision="float32"),
    "train": Setting("train", batch=2),
    "epoch": Setting("epoch", size=(360, 480), batch=8, rounds=5, warm_up=1, images=64, kind="jpg"),
    "devices": Setting("devices", size=(180, 240), batch=8, rounds=3, warm_up=1, images=16, kind="jpg"),
    "loader": Setting("loader", size=(1024, 2048), batch=4, rounds=7, images=8),
    "evaluate": Setting("evaluate", size=(1024, 2048), rounds=3),
    "memory": Setting("memory", size=(96, 128), rounds=6, images=50),
    "start": Setting("start", rounds=7),
}


def settings(do: str, *, networks: Sequence[str], size: tuple[int, int] | None = None,
             batch: int | None = None, rounds: int | None = None) -> Iterator[Setting]:
    """Yield the settings of one task; None keeps the default."""
    chosen = {key: value for key, value in (("size", size), ("batch", batch), ("rounds", rounds)) if value is not None}
    for network in networks:
        setting = replace(DEFAULTS[do], network=network, **chosen)
        if do == "loader":
            yield from (replace(setting, kind=kind) for kind in ("png", "jpg"))
            return  # the loader does not depend on a network
        if do == "backends":
            if rounds is None and NETWORKS[network][0] == "resnet50":
                setting = replace(setting, rounds=3)
            yield from (replace(setting, precision=precision) for precision in ("float32", *half_precisions(), "int8"))
            continue
        yield setting
        if do == "evaluate":  # in separate settings: six scales take twelve GiB, too much for two competitors at once
            yield from (replace(setting, rounds=rounds or 1, whole=form) for form in ("float32", *half_precisions()))


def full_set(networks: Sequence[str]) -> Iterator[Setting]:
    """Yield every measurement, which takes about an hour on two cores."""
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

    yield from settings("backends", networks=[name for name in networks if name in COMPARED])
    yield replace(DEFAULTS["epoch"], rounds=3, images=40)
    yield DEFAULTS["devices"]
    yield from settings("evaluate", networks=networks[:1])
    yield DEFAULTS["memory"]
    yield from settings("loader", networks=networks)


def quick_set(networks: Sequence[str]) -> Iterator[Setting]:
    """Yield a short measurement of every task, which takes some minutes."""
    yield replace(DEFAULTS["start"], rounds=3)
    for network in networks:
        yield replace(DEFAULTS["infer"], network=network, rounds=3, finalists=True)
        yield replace(DEFAULTS["train"], network=network, rounds=3, warm_up=2, size=(256, 256), finalists=True)
    yield from settings("backends", networks=[name for name in networks if name in COMPARED], rounds=2)
    yield replace(DEFAULTS["epoch"], rounds=2, images=16)
    yield replace(DEFAULTS["devices"], rounds=2)
    yield from settings("evaluate", networks=networks[:1], rounds=1, size=(256, 512))
    yield replace(DEFAULTS["memory"], images=20)
    yield from settings("loader", networks=networks, rounds=2)


def half_precisions() -> list[str]:
    """Return the precisions besides float32 that this processor multiplies. Emulated ones are slower everywhere."""
    return ["bfloat16"] if multiplies_bfloat16() else []
