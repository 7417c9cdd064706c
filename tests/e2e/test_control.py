"""The demo learns from the labels: with the masks of other images it does not reach its score."""
import mxnet as mx
import pytest

from mxnetseg.config import load_config
from mxnetseg.data.base import Pair
from mxnetseg.data.sample.dataset import SampleDataset
from mxnetseg.engine.trainer import Trainer


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_shuffled_labels_teach_little(tmp_path, monkeypatch):
    """Six epochs of the demo give a mIoU above 0.4; with shuffled labels the network learns only the common layout."""
    find_pairs = SampleDataset.find_pairs

    def shuffled(self):
        pairs = find_pairs(self)
        if self.split != "train":
            return pairs
        return [Pair(p.name, p.image, other.mask) for p, other in zip(pairs, pairs[7:] + pairs[:7])]

    config = load_config("demo", overrides=["train.epochs=6", "train.val_every=6"])
    true = Trainer(config, [mx.cpu()], folder=tmp_path / "true", quiet=True).fit().scores.miou
    monkeypatch.setattr(SampleDataset, "find_pairs", shuffled)
    control = Trainer(config, [mx.cpu()], folder=tmp_path / "shuffled", quiet=True).fit().scores.miou
    assert true > 0.4 and control < 0.3
