"""Read damaged files in a process of bounded memory and time: ``python fuzz.py TARGET FIRST COUNT FOLDER``.

Each seed gives one damaged file. It may be read, or refused with an MXNetSegError of bounded length. Everything else is
printed as ``seed: what happened``, and the exit status is then 1.
"""
from __future__ import annotations

import io
import json
import logging
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import numpy as np
from mutations import dump, mutate_bytes, mutate_json
from PIL import Image
from sidecars import sections
from torch_files import state_dict, write_stream, write_zip

from mxnetseg.errors import MXNetSegError

MEMORY = 1 << 30  # bytes beyond what the imports take
SECONDS = 10  # for one file
LONGEST = 20_000  # characters of a message


class Hang(BaseException):
    """A file took too long."""


def sidecar(folder: Path):
    from mxnetseg.config import Config
    from mxnetseg.engine.checkpoint import Checkpoint
    from mxnetseg.engine.run_state import RunState
    from mxnetseg.engine.scaling import LossScale
    from mxnetseg.models import build_model

    checkpoint = Checkpoint(folder / "run.params")
    checkpoint.path.write_bytes(b"")
    checkpoint.path.with_suffix(".state").write_bytes(b"")
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes
    model = {"name": "fastscnn", "nclass": 2, "aux": True}
    files = {suffix: {"sha256": digest, "bytes": 0} for suffix in (".params", ".state")}
    sound = {"format": 1, "mxnetseg": "1", "files": files,
             **sections(model=model, config=Config().to_dict(), loss_scale={"value": 1024.0, "good_steps": 3})}

    def read(data: bytes) -> None:
        checkpoint.sidecar_path.write_bytes(data)
        content = checkpoint.read_sidecar()  # and then what commands do with it
        Config.from_dict(content["config"])
        np.array(content["data"]["palette"], np.uint8)[len(content["data"]["classes"]) - 1]
        if ".state" in content["files"]:
            RunState(**content["progress"])
            if content.get("loss_scale"):
                LossScale(**content["loss_scale"])
        if content["model"] != model:
            build_model(**content["model"])

    def case(seed: int):
        return dump(mutate_json(sound, seed)) if seed % 4 else mutate_bytes(dump(sound), seed)
    return read, [dump(sound)], case


def config(folder: Path):
    from mxnetseg.config import load_config
    from mxnetseg.config.loader import Config

    path, sections = folder / "run.yaml", Config().to_dict()
    Config().dump(path)
    sound = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_config(path)

    def case(seed: int):  # JSON is YAML. Wrong values reach the schema; damaged bytes rarely pass the parser
        return dump(mutate_json(sections, seed)) if seed % 2 else mutate_bytes(sound, seed)
    return read, [sound], case


def params(folder: Path):
    import mxnet as mx

    from mxnetseg.models.weights.loading import read_params

    path = folder / "x.params"
    mx.nd.save(str(path), {"arg:w": mx.nd.ones((3, 4)), "aux:b": mx.nd.zeros((5,), dtype="float16")})
    sound = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for value in read_params(path).values():
            value.asnumpy()

    def case(seed: int):
        return mutate_bytes(sound, seed)
    return read, [sound], case


def pth(folder: Path):
    from mxnetseg.models.weights.torchfile import read_torch

    path = folder / "x.pth"
    content = state_dict({"w": np.arange(12, dtype="f4").reshape(3, 4), "b": np.ones(5, "f2")})
    sound = [write(path, content).read_bytes() for write in (write_zip, write_stream)]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_torch(path)

    def case(seed: int):
        return mutate_bytes(sound[seed % 2], seed)
    return read, sound, case


def images(folder: Path):
    from mxnetseg.data.decoding import read_image
    from mxnetseg.data.masks import read_mask

    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8))
    mask = Image.fromarray(rng.integers(0, 4, (20, 30), np.uint8))
    palette = mask.convert("P")
    deep = Image.fromarray(rng.integers(0, 4, (20, 30)).astype(np.uint16))
    sound = []
    for image, ending in ((photo, "jpeg"), (photo, "png"), (mask, "png"), (palette, "png"), (photo, "tiff"),
                          (deep, "tiff"), (photo, "bmp"), (photo, "webp")):
        buffer = io.BytesIO()
        image.save(buffer, ending)
        sound.append((buffer.getvalue(), ending))

    def read(case) -> None:
        data, ending = case
        path = folder / f"x.{ending}"
        path.write_bytes(data)
        refusals = []
        for reader in (read_image, read_mask):
            try:
                reader(path)
            except MXNetSegError as error:
                refusals.append(error)
        if len(refusals) == 2:  # a photo is no mask
            raise refusals[0]

    def case(seed: int):
        return (mutate_bytes(sound[seed % len(sound)][0], seed), sound[seed % len(sound)][1])
    return read, sound, case


def coco(folder: Path):
    from mxnetseg.data.prepare import prepare

    source = folder / "export"
    source.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (30, 20)).save(source / f"{name}.jpg")
    sound = {"images": [{"id": i, "file_name": f"{name}.jpg", "width": 30, "height": 20}
                        for i, name in enumerate(("a", "b"))],
             "categories": [{"id": 1, "name": "cat", "supercategory": "pets"}, {"id": 2, "name": "dog"}],
             "annotations": [
                 {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 9, 9], "area": 81,
                  "segmentation": [[1, 1, 9, 1, 9, 9]]},
                 {"id": 2, "image_id": 1, "category_id": 2, "iscrowd": 1, "bbox": [0, 0, 30, 20],
                  "segmentation": {"size": [20, 30], "counts": [100, 200, 300]}}]}

    def read(data: bytes) -> None:
        (source / "_annotations.coco.json").write_bytes(data)
        prepare("coco-json", source, folder / "out", force=True, workers=1)

    def case(seed: int):
        return dump(mutate_json(sound, seed)) if seed % 5 else mutate_bytes(dump(sound), seed)
    return read, [dump(sound)], case


def labelme(folder: Path):
    from mxnetseg.data.prepare import prepare

    source = folder / "labelled"
    source.mkdir()
    Image.new("RGB", (30, 20)).save(source / "a.png")
    shapes = [("cat", "polygon", [[1, 1], [9, 1], [9, 9]]), ("dog", "rectangle", [[2, 3], [12, 9]]),
              ("dog", "circle", [[9, 9], [9, 12]]), ("cat", "linestrip", [[1, 1], [5, 5], [9, 2]])]
    sound = {"version": "5.2.1", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": 20,
             "imageWidth": 30, "shapes": [{"label": label, "shape_type": shape_type, "points": points, "group_id": None,
                                           "flags": {}} for label, shape_type, points in shapes]}

    def read(data: bytes) -> None:
        (source / "a.json").write_bytes(data)
        prepare("labelme", source, folder / "out", force=True, workers=1)

    def case(seed: int):
        return dump(mutate_json(sound, seed)) if seed % 5 else mutate_bytes(dump(sound), seed)
    return read, [dump(sound)], case


TARGETS = {f.__name__: f for f in (sidecar, config, params, pth, images, coco, labelme)}


def main(target: str, first: int, count: int, folder: Path) -> int:
    logging.disable(logging.CRITICAL)
    read, sound, case = TARGETS[target](folder)
    for undamaged in sound:
        read(undamaged)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    def too_long(*_):
        raise Hang
    signal.signal(signal.SIGALRM, too_long)
    outcomes, failures = {"read": 0, "refused": 0}, 0
    before = {path.name for path in folder.parent.iterdir()}
    for seed in range(first, first + count):
        signal.alarm(SECONDS)
        try:
            read(case(seed))
            outcomes["read"] += 1
        except MXNetSegError as error:
            message = str(error)
            message.encode("utf-8", "surrogateescape")
            problem = f"a message of {len(message)} characters" if len(message) > LONGEST else None
            problem = "an MXNetSegError hides a lack of memory" if "MemoryError" in message else problem
            outcomes["refused"] += 1
            if problem:
                failures += 1
                print(f"{seed}: {problem}")
        except BaseException as error:
            failures += 1
            place = traceback.extract_tb(error.__traceback__)[-3:]
            print(f"{seed}: {type(error).__name__}: {str(error)[:200]!a} at "
                  f"{[f'{os.path.basename(f.filename)}:{f.lineno}' for f in place]}")
        finally:
            signal.alarm(0)
    if {path.name for path in folder.parent.iterdir()} != before:
        failures += 1
        print(f"files outside the folder: {sorted(path.name for path in folder.parent.iterdir())}")
    print(json.dumps(outcomes))
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
