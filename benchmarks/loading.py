"""Speed of reading training images: ``python -m benchmarks.loading TASK``, where TASK is JSON.

``{"form": "ours", "data": ".../png", "base": 2048, "crop": 768, "batch": 4}``: one run reads every image and its mask
once: flip, scale the long side to 0.5 to 2 times ``base``, crop, in batches, all in one thread.

Forms: ``ours`` returns uint8, because mxnetseg normalises on the device; ``float`` returns what the other libraries
return: float32, normalised, channels first. ``gluoncv`` is GluonCV's ``SegmentationDataset``. GluonCV and mxnetseg
blur every second crop; torchvision's reference, in theirs_data.py, does not.
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from .serve import serve

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ours(task, *, as_float: bool = False):
    """Return a function that takes the number of an epoch and yields its batches."""
    from mxnetseg.config import Config
    from mxnetseg.data import get_dataset
    from mxnetseg.data.loader import Loader
    from mxnetseg.data.recipes import make_transform

    data = Config().replace({"data.recipe": "mxnetseg", "data.base_size": task["base"],
                             "data.crop_size": [task["crop"]] * 2}).data
    loader = Loader(get_dataset(f"folder:{task['data']}"), batch_size=task["batch"], transform=make_transform(data),
                    workers=0)
    # the normalised value of each of a channel's 256 values
    tables = [((np.arange(256) / 255 - mean) / std).astype(np.float32) for mean, std in zip(MEAN, STD)]

    def batches(number):
        for batch in loader.epoch(number):
            if as_float:
                yield np.stack([t.take(batch.images[..., c]) for c, t in enumerate(tables)], axis=1), batch.masks
            else:
                yield batch.images, batch.masks
    return batches


def gluoncv(task, *, workers: int = 0):
    """Return a function that takes the number of an epoch and yields its batches, read by ``workers`` processes."""
    import mxnet as mx
    from gluoncv.data.segbase import SegmentationDataset
    from mxnet.gluon.data import DataLoader
    from mxnet.gluon.data.vision import transforms
    from PIL import Image

    images, masks = (sorted((Path(task["data"]) / kind).iterdir()) for kind in ("images", "masks"))

    class Images(SegmentationDataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, i):
            image, mask = self._sync_transform(Image.open(images[i]).convert("RGB"), Image.open(masks[i]))
            return self.transform(image), mask

        def _mask_transform(self, mask):
            return mx.nd.array(np.array(mask), mx.cpu(0)).astype("int32")

    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    dataset = Images(task["data"], "train", "train", normalise, base_size=task["base"], crop_size=task["crop"])
    loader = DataLoader(dataset, task["batch"], shuffle=True, last_batch="discard", num_workers=workers)

    def batches(number):
        for image, mask in loader:
            image.wait_to_read()
            mask.wait_to_read()
            yield image, mask
    return batches


def main() -> None:
    task = json.loads(sys.argv[1])
    make = {"ours": ours, "float": lambda task: ours(task, as_float=True), "gluoncv": gluoncv}[task["form"]]
    batches, epoch = make(task), 0

    def run():
        nonlocal epoch
        began, count, epoch = time.process_time(), 0, epoch + 1
        for images, _ in batches(epoch):
            count += len(images)
        return {"images": count, "cpu_seconds": time.process_time() - began}
    run()
    serve({}, run)


if __name__ == "__main__":
    main()
