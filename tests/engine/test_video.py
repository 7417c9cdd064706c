"""Videos: every frame in order, the rate kept, rotation applied, damage reported, nothing half-written."""
import struct

import cv2
import numpy as np
import pytest

from mxnetseg.engine import video as module
from mxnetseg.engine.video import VideoReader, choose_codec, write_video
from mxnetseg.errors import DataError, EnvironmentProblem


def frame_of(i, size=(48, 64)):
    """Return a frame whose grey level is its number, with a bright upper left corner."""
    frame = np.full((*size, 3), 40 + 8 * i, np.uint8)
    frame[:16, :16] = (250, 30, 30)
    return frame


def make(path, count=20, rate=12.5, size=(48, 64)):
    with write_video(path, rate, choose_codec()) as writer:
        for i in range(count):
            writer.add(frame_of(i, size))
    return path


def frames(path, every=1):
    reader = VideoReader(path, every)
    return reader, list(reader)


def levels(given):
    return [round((float(frame[30:, 30:].mean()) - 40) / 8) for frame in given]


def test_frames_come_back_in_order_with_their_rate(tmp_path):
    reader, given = frames(make(tmp_path / "a.mp4"))
    assert levels(given) == list(range(20)) and given[0].shape == (48, 64, 3)
    assert (reader.rate, reader.count, reader.read, reader.missing()) == (12.5, 20, 20, 0)
    red, green, _ = given[3][4, 4].astype(int)
    assert red > 200 > 80 > green  # RGB
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("every, wanted", [(2, list(range(0, 20, 2))), (7, [0, 7, 14]), (50, [0])])
def test_every_nth_frame_divides_the_rate(tmp_path, every, wanted):
    reader, given = frames(make(tmp_path / "a.mp4"), every)
    assert levels(given) == wanted and reader.count == len(wanted)
    assert reader.rate == 12.5 / every and reader.missing() == 0


def test_an_odd_last_row_and_column_are_left_out(tmp_path):
    _, given = frames(make(tmp_path / "a.mp4", 3, size=(49, 65)))
    assert given[0].shape == (48, 64, 3) and len(given) == 3


def test_the_rotation_of_phones_is_applied(tmp_path):
    path = make(tmp_path / "a.mp4", 4)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of a version-0 box
    assert struct.unpack_from(">9i", data, at) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)  # 90 degrees clockwise
    path.write_bytes(data)
    _, given = frames(path)
    assert given[0].shape == (64, 48, 3)
    corners = [float(given[0][rows, columns, 0].mean()) for rows in (slice(8), slice(-8, None))
               for columns in (slice(8), slice(-8, None))]
    assert int(np.argmax(corners)) == 1  # upper left is upper right now


def test_a_damaged_end_is_reported(tmp_path):
    path = make(tmp_path / "a.mp4", 25)
    data = bytearray(path.read_bytes())
    start, size = data.index(b"mdat") + 4, struct.unpack_from(">I", data, data.index(b"mdat") - 4)[0] - 8
    data[start + size // 2:start + size] = bytes(size - size // 2)
    path.write_bytes(data)
    reader, given = frames(path)
    assert reader.missing() == 25 - reader.read > 1 and len(given) == reader.read < 25


@pytest.mark.parametrize("content", [b"", b"no video" * 100, None])
def test_a_file_that_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is None:
        whole = make(tmp_path / "b.mp4").read_bytes()
        content = whole[:whole.index(b"moov") - 4]  # a recording that was cut off has no index
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be opened") as error:
        VideoReader(path)
    assert "ffmpeg" in error.value.fix
    with pytest.raises(DataError, match="is not there"):
        VideoReader(tmp_path / "none.mp4")


def test_an_interrupted_video_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), write_video(tmp_path / "a.mp4", 25, choose_codec()) as writer:
        writer.add(frame_of(0))
        assert not (tmp_path / "a.mp4").exists() and len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_frames_that_were_not_written_are_noticed(tmp_path, monkeypatch):
    """OpenCV reports no full disk."""
    with pytest.raises(EnvironmentProblem, match="not written completely") as error, \
            write_video(tmp_path / "a.mp4", 25, choose_codec()) as writer:
        writer.add(frame_of(0))
        writer.count = 5
    assert "1 of 5 frames" in error.value.received and list(tmp_path.iterdir()) == []


def test_frames_of_several_sizes_are_refused(tmp_path):
    with pytest.raises(DataError, match="differ in size"), \
            write_video(tmp_path / "a.mp4", 25, choose_codec()) as writer:
        writer.add(frame_of(0))
        writer.add(frame_of(0, (64, 48)))


def test_the_codec_is_one_that_works(monkeypatch, capfd):
    codec = choose_codec()
    assert codec in module.CODECS and capfd.readouterr().err == ""
    monkeypatch.setattr(module, "CODECS", {"zzzz": "a codec", codec: "another"})
    assert choose_codec() == codec
    monkeypatch.setattr(cv2, "VideoWriter", lambda *_: cv2.VideoCapture())  # which is never open
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *_: 0, raising=False)
    with pytest.raises(EnvironmentProblem, match="cannot write mp4 videos") as error:
        choose_codec()
    assert "zzzz (a codec)" in error.value.received and "--no-overlay" in error.value.fix
