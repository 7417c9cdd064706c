"""How fast training pictures come: mxnetseg's loader, GluonCV's and torchvision's, side by side.

Each is one worker, a process with one thread, and does the same job: read a picture of 1024 x 2048 and its mask, flip,
scale the long side by 0.5 to 2, crop 768 x 768, batches of four. They take turns, round by round, so that other work on
the machine hits all alike; what counts is the ratio of the medians.

    make bench                           sets up its own environments
    python benchmarks/loader.py --help   options; --torch names a Python that has torchvision

mxnetseg hands out uint8, since it normalises on the device; `mxnetseg, float` does in the worker what the others do:
float32, normalised, channels first. GluonCV blurs every second crop, and so does mxnetseg; torchvision's reference does
not. torchvision is run on its tensors and on Pillow's images, of which the faster counts.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HEIGHT, WIDTH, CROP, BATCH, CLASSES = 1024, 2048, 768, 4, 19
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                     "MXNET_CPU_WORKER_NTHREADS")}


# ---- the pictures ---------------------------------------------------------------------------


def make_pictures(root: Path, count: int) -> None:
    """Folder data twice, as PNG and as JPEG: ``root/png`` and ``root/jpg``.

    Smooth fields of several sizes with a little noise: the PNG files take about 2.5 MB, as those of Cityscapes do.
    """
    import cv2
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)

    def field(sigma, strength):
        x = cv2.GaussianBlur(rng.normal(size=(HEIGHT // 4, WIDTH // 4, 3)).astype(np.float32), (0, 0), sigma)
        return cv2.resize(x, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) / x.std() * strength

    for kind in ("png", "jpg"):
        (root / kind / "images").mkdir(parents=True)
        (root / kind / "masks").mkdir()
        names = "\n".join(f"{i:03d}" for i in range(count))
        (root / kind / "train.txt").write_text(names)
        (root / kind / "classes.txt").write_text("\n".join(f"class {i}" for i in range(CLASSES)))
    for i in range(count):
        picture = 110 + field(40, 40) + field(6, 18) + field(1, 6) + rng.normal(size=(HEIGHT, WIDTH, 1)) \
            + 0.7 * rng.normal(size=(HEIGHT, WIDTH, 3))
        picture = picture.clip(0, 255).astype(np.uint8)
        scores = cv2.resize(rng.normal(size=(24, 48, CLASSES)).astype(np.float32), (WIDTH // 4, HEIGHT // 4),
                            interpolation=cv2.INTER_CUBIC)
        mask = cv2.resize(scores.argmax(-1).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "png" / "images" / f"{i:03d}.png"), picture)
        cv2.imwrite(str(root / "jpg" / "images" / f"{i:03d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        for kind in ("png", "jpg"):
            Image.fromarray(mask).save(root / kind / "masks" / f"{i:03d}.png")  # with Pillow, as Cityscapes' were


# ---- the contestants: each a function that returns a function: round number -> batches -----


def ours(root: Path, as_float: bool = False):
    import numpy as np

    from mxnetseg.config import Config
    from mxnetseg.data import get_dataset
    from mxnetseg.data.loader import Loader
    from mxnetseg.data.recipes import make_transform

    data = Config().replace({"data.recipe": "mxnetseg", "data.base_size": WIDTH, "data.crop_size": CROP}).data
    loader = Loader(get_dataset(f"folder:{root}"), batch_size=BATCH, transform=make_transform(data), workers=0)
    # what each of a channel's 256 values is when normalised
    tables = [((np.arange(256) / 255 - mean) / std).astype(np.float32) for mean, std in zip(MEAN, STD)]

    def batches(number):
        for batch in loader.epoch(number):
            if as_float:
                yield np.stack([t.take(batch.images[..., c]) for c, t in enumerate(tables)], axis=1), batch.masks
            else:
                yield batch.images, batch.masks
    return batches


def ours_as_float(root: Path):
    return ours(root, as_float=True)


def gluoncv(root: Path):
    import mxnetseg  # noqa: F401, I001  (first: it gives NumPy the names that MXNet misses)
    import mxnet as mx
    import numpy as np
    from gluoncv.data.segbase import SegmentationDataset
    from mxnet.gluon.data import DataLoader
    from mxnet.gluon.data.vision import transforms
    from PIL import Image

    images, masks = files(root)

    class Pictures(SegmentationDataset):
        NUM_CLASS = CLASSES

        def __len__(self):
            return len(images)

        def __getitem__(self, i):
            image, mask = self._sync_transform(Image.open(images[i]).convert("RGB"), Image.open(masks[i]))
            return self.transform(image), mask

        def _mask_transform(self, mask):
            return mx.nd.array(np.array(mask), mx.cpu(0)).astype("int32")

    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    dataset = Pictures(str(root), "train", "train", normalise, base_size=WIDTH, crop_size=CROP)
    loader = DataLoader(dataset, BATCH, shuffle=True, last_batch="discard", num_workers=0)

    def batches(number):
        for image, mask in loader:
            image.wait_to_read()
            mask.wait_to_read()
            yield image, mask
    return batches


def torchvision(root: Path, pillow: bool = False):
    import torch

    _allow_cpu_only(torch)
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    images, masks = files(root)
    steps = [] if pillow else [v2.ToImage()]
    steps += [v2.RandomResize(HEIGHT // 2, HEIGHT * 2, antialias=True), v2.RandomHorizontalFlip(0.5),
              v2.RandomCrop(CROP, pad_if_needed=True, fill={tv_tensors.Mask: 255, "others": 0}), v2.ToImage(),
              v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
              v2.Normalize(MEAN, STD)]
    transform = v2.Compose(steps)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, i):
            mask = v2.functional.pil_to_tensor(Image.open(masks[i]))[0]
            return transform(Image.open(images[i]).convert("RGB"), tv_tensors.Mask(mask))

    loader = torch.utils.data.DataLoader(Pictures(), BATCH, shuffle=True, drop_last=True, num_workers=0)

    def batches(number):
        yield from loader
    return batches


def torchvision_pillow(root: Path):
    return torchvision(root, pillow=True)


def _allow_cpu_only(torch) -> None:
    """A torchvision built for CUDA cannot load its compiled operators beside a torch for CPUs, and is then missed at
    import, though the transforms need none of them: their names are enough."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _allow_cpu_only.kept = library  # it is unregistered when it goes


def files(root: Path):
    """Images and masks, in the same order."""
    return sorted((root / "images").iterdir()), sorted((root / "masks").iterdir())


CONTESTANTS = {"mxnetseg": ours, "mxnetseg, float": ours_as_float, "gluoncv": gluoncv, "torchvision": torchvision,
               "torchvision, pillow": torchvision_pillow}


# ---- one worker, and the referee ------------------------------------------------------------


def work(name: str, root: Path) -> None:
    """Answer each line on stdin with the wall and processor seconds of one round, as JSON."""
    batches = CONTESTANTS[name](root)
    for number, _ in enumerate(sys.stdin):
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        for image, mask in batches(number):
            assert tuple(mask.shape) == (BATCH, CROP, CROP) and CROP in image.shape, (image.shape, mask.shape)
            count += BATCH
        answer = {"images": count, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, name: str, python: str, root: Path):
        self.name, self.wall, self.cpu = name, [], []
        self._process = subprocess.Popen([python, __file__, "--worker", name, "--data", str(root)], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         env={**os.environ, **ONE_THREAD})

    def play(self, counts: bool) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed, see above")
        answer = json.loads(line)
        if counts:
            self.wall.append(answer["wall"] / answer["images"])
            self.cpu.append(answer["cpu"] / answer["images"])

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def compete(root: Path, kind: str, pythons: dict, rounds: int) -> dict:
    """Seconds an image of each contestant on pictures of one kind, by wall clock and by processor time."""
    workers = [Worker(name, python, root / kind) for name, python in pythons.items()]
    try:
        for number in range(rounds + 1):  # the first warms up
            for worker in workers:
                worker.play(counts=number > 0)
    finally:
        for worker in workers:
            worker.close()
    return {w.name: {"wall": median(w.wall), "cpu": median(w.cpu), "rounds": w.wall} for w in workers}


def report(results: dict) -> str:
    lines = ["| pictures | loader | images/s per worker | CPU ms an image | mxnetseg is faster by |",
             "|---|---|---|---|---|"]
    for kind, times in results.items():
        best = times["mxnetseg"]["wall"]
        for name, seconds in times.items():
            ratio = f"{seconds['wall'] / best:.2f}" if name != "mxnetseg" else ""
            lines.append(f"| {kind} | {name} | {1 / seconds['wall']:.1f} | {1000 * seconds['cpu']:.0f} | {ratio} |")
    return "\n".join(lines)


def has_torch(python: str) -> bool:
    code = "import torch, importlib.util as u, sys; sys.exit(u.find_spec('torchvision') is None)"
    return Path(python).exists() and subprocess.run([python, "-c", code]).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has torch and torchvision")
    parser.add_argument("--images", type=int, default=8, help="pictures, and images of one round (default: 8)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one that warms up (default: 7)")
    parser.add_argument("--kinds", nargs="+", choices=("png", "jpg"), default=["png", "jpg"])
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.data)
        return 0
    pythons = {name: sys.executable for name in CONTESTANTS if "torch" not in name}
    if args.torch and has_torch(args.torch):
        pythons.update({name: args.torch for name in CONTESTANTS if "torch" in name})
    else:
        print("torchvision is left out: --torch names a Python that has it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder), args.images)
        results = {kind: compete(Path(folder), kind, pythons, args.rounds) for kind in args.kinds}
    print(report(results))
    if args.json:
        about = {"processors": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(),
                 "images": args.images, "results": results}
        Path(args.json).write_text(json.dumps(about, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
