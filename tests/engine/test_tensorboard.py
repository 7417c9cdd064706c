"""TensorBoard's log of a run: its numbers and images, a resumed run, and failures that do not stop a training."""
import sys

import mxnet as mx
import pytest

from mxnetseg.engine.trackers import PANELS, TensorBoard
from mxnetseg.engine.trainer import Trainer
from mxnetseg.errors import EnvironmentProblem

tensorboardx = pytest.importorskip("tensorboardX")


def events(folder):
    """Return (step, tag, value) of all numbers, and (step, tag) of all images, in the order of writing."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401  the format: length, checksum, data, checksum

    numbers, images, starts = [], [], []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at:at + 8], "little")
            event = Event.FromString(data[at + 12:at + 12 + length])
            at += 12 + length + 4
            if event.session_log.status == 1:
                starts.append(event.step)
            for value in event.summary.value:
                if value.HasField("image"):
                    images.append((event.step, value.tag, value.image.height, value.image.width))
                else:
                    numbers.append((event.step, value.tag, value.simple_value))
    return numbers, images, starts


@pytest.fixture
def folder(tmp_path):
    return lambda result: result.last.path.with_name(result.last.stem + "_tensorboard")


def test_numbers_and_images_of_a_run(fit, configure, tmp_path, folder):
    trainer, result = fit(configure({"train.epochs": 2}), tmp_path, tensorboard=True)
    numbers, images, _ = events(folder(result))
    assert [step for step, tag, _ in numbers if tag == "loss"] == [1, 2, 3, 4, 5, 6]
    by_tag = {tag: value for step, tag, value in numbers if step == 6}
    assert by_tag["val_miou"] == pytest.approx(result.scores.miou)
    assert by_tag["val_iou/red"] == pytest.approx(result.scores.iou[0])
    assert [(step, tag) for step, tag, *_ in images] == \
        [(step, f"validation/val{i}") for step in (3, 6) for i in range(3)]
    assert all(width > 4 * 32 for *_, width in images)


def test_only_a_few_images_are_shown(fit, configure, tmp_path, painting, folder):
    data = painting(tmp_path / "data", val=11)
    _, result = fit(configure({"train.epochs": 1}, data=data), tmp_path, tensorboard=True)
    assert len(events(folder(result))[1]) == PANELS


def test_a_resumed_run_hides_later_steps(fit, configure, tmp_path, folder):
    _, first = fit(configure(), tmp_path, tensorboard=True, stop_at=4)
    _, second = fit(configure(), tmp_path, tensorboard=True, resume=first.last)
    numbers, _, starts = events(folder(second))
    assert [step for step, tag, _ in numbers if tag == "loss"] == list(range(1, 10))
    assert starts == [5]


def test_not_installed(configure, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(EnvironmentProblem, match="tensorboardX") as error:
        Trainer(configure(), [mx.cpu()], folder=tmp_path, tensorboard=True, quiet=True)
    assert "pip install 'mxnetseg[tensorboard]'" in str(error.value)


def test_a_failure_does_not_stop_the_run(fit, configure, tmp_path, monkeypatch, caplog):
    def broken(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(tensorboardx.SummaryWriter, "add_scalar", broken)
    _, result = fit(configure({"train.epochs": 1}), tmp_path, tensorboard=True)
    assert result.run_state.epoch == 1
    assert caplog.text.count("No space left on device") == 1 and "training continues" in caplog.text


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    log = TensorBoard(tmp_path / "file" / "below")
    log.log({"step": 1, "loss": 1.0})
    log.close()
    assert "TensorBoard's log failed" in caplog.text
