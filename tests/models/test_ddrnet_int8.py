"""DDRNet-23-slim in int8: it keeps nearly all classes of float32 after a short training."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.config import load_config
from mxnetseg.data import get_dataset
from mxnetseg.engine.predictor import Predictor
from mxnetseg.engine.trainer import Trainer


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_int8_keeps_the_classes_of_99_percent_of_the_pixels(tmp_path):
    config = load_config(model="ddrnet", overrides=[
        "train.epochs=8", "train.val_every=0", "data.crop_size=[128, 192]", "data.base_size=192",
        "data.scale=[0.75, 1.5]", "optimizer.lr=0.02"])
    trained = Trainer(config, [mx.cpu()], folder=tmp_path, quiet=True).fit().last
    calibration = get_dataset("sample", split="train")
    images = [calibration[i].image for i in range(0, len(calibration), 20)]
    wide, narrow = Predictor(trained), Predictor(trained, precision="int8", calibration=images)
    val = get_dataset("sample", split="val")
    same = [np.mean(wide(val[i].image).class_map == narrow(val[i].image).class_map) for i in range(len(val))]
    classes = np.unique([wide(val[i].image).class_map for i in range(len(val))])
    print(f"{np.mean(same):.4f} of the pixels keep their class; least {min(same):.4f}; {len(classes)} classes seen")
    assert np.mean(same) >= 0.99 and len(classes) > 3
