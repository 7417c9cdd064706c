"""Evaluations of painted images, as `mxnetseg eval` keeps them, without a network."""
import numpy as np

from mxnetseg.report.recorder import Recorder
from mxnetseg.viz.palette import make_palette

CLASSES = ("road", "car", "sky <b>blue</b>")
ROWS = [{"kind": "epoch", "step": 10 * k, "epoch": k, "train_loss": 2 / k, "val_miou": 0.1 * k,
         "val_iou/road": 0.2 * k, "val_iou/car": 0.1 * k} for k in (1, 2, 3)]
DESCRIPTION = {
    "backend": "mxnet", "checkpoint": "weights/fcn/one_best.params", "sha256": "0" * 64, "bytes": 51_900_000,
    "network": "fcn",
    "backbone": "resnet18", "parameters": 12_960_000, "config": {"train": {"epochs": 3}}, "epochs": ROWS,
    "speed": {"milliseconds": 12.5, "height": 48, "width": 64}, "devices": ["cpu(0)"], "data": "made", "split": "val",
    "protocol": "whole images", "precision": "float32", "absent_as": "skip", "control_miou": 0.2}


def painted(number, size=(48, 64), nclass=3):
    """Return an image, its mask with some ignored pixels, and a prediction that is worse the higher the number is."""
    rng = np.random.default_rng(number)
    mask = rng.integers(0, nclass, (6, 8)).astype(np.uint8).repeat(8, 0).repeat(8, 1)[:size[0], :size[1]]
    image = np.stack([60 * mask + 40, 200 - 60 * mask, 50 + 0 * mask], axis=-1).astype(np.uint8)
    mask[:2] = 255
    wrong = rng.random(mask.shape) < 0.05 * (number + 1)
    prediction = np.where(wrong | (mask == 255), rng.integers(0, nclass, mask.shape), mask).astype(np.uint8)
    return image, mask, prediction


def probabilities_of(prediction, confidence=0.8, nclass=3):
    rest = (1 - confidence) / (nclass - 1)
    return np.where(np.arange(nclass)[:, None, None] == prediction, confidence, rest).astype(np.float32)


def evaluation(folder, *, count=8, classes=CLASSES, worse=0, names=None, **description):
    """Write an evaluation of ``count`` images into a folder and return it; ``worse`` adds wrong pixels."""
    recorder = Recorder(folder, count, classes, make_palette(len(classes)))
    for i in range(count):
        image, mask, prediction = painted(i, nclass=len(classes))
        prediction[:, :worse] = 0
        assert recorder.wants_probabilities(image)
        probabilities = probabilities_of(prediction, nclass=len(classes))
        recorder.add(names[i] if names else f"val/{i}", image, mask, prediction, probabilities)
    recorder.finish({**DESCRIPTION, **description})
    return folder
