"""Reading images and training on them in PyTorch: ``python theirs_data.py TASK``, where TASK is JSON.

``do``: ``loading``, the speed of one thread as in loading.py; ``epoch``, epochs as in epoch.py, with two worker
processes. The images pass torchvision's v2 transforms as in its reference for segmentation: with ``pillow`` as Pillow
images, otherwise as tensors, which is faster.
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from serve import WaitingTime, resident_mib, serve  # beside this file
from theirs import BACKBONES, NETWORKS, count_parameters, training_step

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKERS = 2


def import_torchvision():
    """Return torchvision, even if it was built for CUDA and torch was not.

    Such a torchvision cannot load its compiled operators and fails at import. The transforms do not need them, so
    it is enough to define their names.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.kept = library  # deleting it would remove the names
        import torchvision
    return torchvision


class Images(torch.utils.data.Dataset):
    def __init__(self, task):
        import_torchvision()
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        self.images, self.masks = (sorted((Path(task["data"]) / kind).iterdir()) for kind in ("images", "masks"))
        # the long side is 0.5 to 2 times base; RandomResize draws the short one
        short = min(self.read(0)[0].size) * task["base"] / max(self.read(0)[0].size)
        steps = [] if task.get("pillow") else [v2.ToImage()]
        self.transform = v2.Compose([
            *steps, v2.RandomResize(int(short / 2), int(short * 2), antialias=True), v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(task["crop"], pad_if_needed=True, fill={tv_tensors.Mask: 255, "others": 0}), v2.ToImage(),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
            v2.Normalize(MEAN, STD)])

    def read(self, i):
        from PIL import Image

        return Image.open(self.images[i]).convert("RGB"), Image.open(self.masks[i])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        from torchvision import tv_tensors
        from torchvision.transforms.v2.functional import pil_to_tensor

        image, mask = self.read(i)
        image, mask = self.transform(image, tv_tensors.Mask(pil_to_tensor(mask)[0]))
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


def loading(task) -> None:
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(Images(task), task["batch"], shuffle=True, drop_last=True)

    def run():
        began, count = time.process_time(), 0
        for images, _ in loader:
            count += len(images)
        return {"images": count, "cpu_seconds": time.process_time() - began}
    run()
    serve({}, run)


def epoch(task) -> None:
    imported = resident_mib()
    torch.manual_seed(0)
    net = NETWORKS[task["network"]](BACKBONES[task["backbone"]](task["output_stride"]), 19)
    net = net.to(memory_format=torch.channels_last)
    step = training_step(net, task)
    loader = torch.utils.data.DataLoader(Images(task), task["batch"], shuffle=True, drop_last=True,
                                         num_workers=WORKERS, persistent_workers=True)
    waited = WaitingTime(lambda: loader)

    def run():
        count = 0
        for images, masks in waited():
            step(images.contiguous(memory_format=torch.channels_last), masks)
            count += len(images)
        return {"images": count, "waited_seconds": waited.take()}
    began = time.perf_counter()
    for _ in range(task["warm_up"]):
        run()
    serve({"parameters": count_parameters(net), "imported_mib": imported,
           "warm_up_s": round(time.perf_counter() - began, 2)}, run)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    {"loading": loading, "epoch": epoch}[task["do"]](task)
