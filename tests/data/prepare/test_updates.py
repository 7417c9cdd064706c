"""A second run into the same target: what has changed is made again, what was edited is not lost, nothing is stale."""
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.prepare import base, prepare
from mxnetseg.data.prepare.stamp import JOURNAL, STAMP
from mxnetseg.errors import DataError, EnvironmentProblem, MXNetSegError, UsageError
from mxnetseg.tools.main import main


def png(path):
    return np.array(Image.open(path))


def inode(path):
    return path.stat().st_ino, path.stat().st_mtime_ns


@pytest.fixture
def draw(tmp_path, picture, text):
    """``draw(name, label, ...)`` saves an image and labelme's JSON with one rectangle for each label."""
    source = tmp_path / "drawn"

    def save(name, *labels, left=0):
        if not (source / f"{name}.png").exists():
            picture(source / f"{name}.png")
        return text(source / f"{name}.json", {
            "shapes": [{"label": label, "shape_type": "rectangle", "points": [[left, 6 * i], [32, 6 * i + 6]]}
                       for i, label in enumerate(labels)],
            "imagePath": f"{name}.png", "imageData": None, "imageHeight": 24, "imageWidth": 32})
    for i in range(6):
        save(f"{i}", "cat", "dog")
    return save


@pytest.fixture
def source(draw, tmp_path):
    return tmp_path / "drawn"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "pets"


def rows(target, name):
    """Class names of a mask, by its rows 0, 6, ..."""
    classes = get_dataset(str(target)).classes
    return [classes[i] for i in png(target / "masks" / f"{name}.png")[::6, -1]]


def test_a_new_label_makes_all_masks_again(draw, source, target, capsys):
    """The accident that this is for: classes in the order of the alphabet move when one is added."""
    assert main(["prepare", "labelme", str(source), str(target)]) == 0
    images = [inode(target / "images" / f"{i}.png") for i in range(6)]
    draw("6", "bird", "cat")
    capsys.readouterr()
    assert main(["prepare", "labelme", str(source), str(target)]) == 0
    out = capsys.readouterr().out
    assert "8 files made, 6 were there\n6 re-made" in out
    assert "classes changed: background, cat, dog -> background, bird, cat, dog\n" in out
    assert all(rows(target, i) == ["cat", "dog", "background", "background"] for i in range(6))
    assert rows(target, 6) == ["bird", "cat", "background", "background"]
    assert images == [inode(target / "images" / f"{i}.png") for i in range(6)]  # they do not depend on classes


def test_a_corrected_outline_is_made_again_and_it_alone(draw, source, target):
    prepare("labelme", source, target)
    others = [inode(target / "masks" / f"{i}.png") for i in (0, 1, 2, 4, 5)]
    draw("3", "cat", "dog", left=10)
    done = prepare("labelme", source, target)
    assert (done.made, done.kept, done.remade, done.notes) == (1, 11, ("masks/3.png",), ())
    assert (png(target / "masks" / "3.png")[0] == [0] * 10 + [1] * 22).all()
    assert others == [inode(target / "masks" / f"{i}.png") for i in (0, 1, 2, 4, 5)]


def test_a_mask_edited_by_hand_is_kept_and_never_overwritten_in_silence(draw, source, target, capsys):
    prepare("labelme", source, target)
    edited = target / "masks" / "2.png"
    Image.fromarray(np.full((24, 32), 2, np.uint8)).save(edited)
    before = edited.read_bytes()
    assert prepare("labelme", source, target).kept == 12 and edited.read_bytes() == before
    draw("6", "bird")
    assert main(["prepare", "labelme", str(source), str(target)]) == 2
    err = capsys.readouterr().err
    assert "files that were edited" in err and "masks/2.png" in err and "--force" in err
    assert edited.read_bytes() == before and "bird" not in (target / "classes.txt").read_text()
    assert main(["prepare", "labelme", str(source), str(target), "--force"]) == 0  # the way out that it names
    assert rows(target, 2) == ["cat", "dog", "background", "background"]


def test_edited_classes_are_kept_and_not_overwritten_in_silence(draw, source, target):
    prepare("labelme", source, target)
    (target / "classes.txt").write_text("background\nkitty\nhound\n")
    prepare("labelme", source, target)
    assert get_dataset(str(target)).classes[1] == "kitty"
    draw("6", "bird")
    with pytest.raises(UsageError, match="edited") as error:
        prepare("labelme", source, target)
    assert error.value.received == "classes.txt"


def test_what_a_removed_source_has_left_is_removed(draw, source, target, capsys):
    prepare("labelme", source, target)
    (source / "4.json").unlink()
    assert main(["prepare", "labelme", str(source), str(target)]) == 0
    assert "2 removed, since their sources are gone: images/4.png, masks/4.png" in capsys.readouterr().out
    assert not (target / "masks" / "4.png").exists() and (source / "4.png").exists()
    (source / "5.json").unlink()
    Image.fromarray(np.full((24, 32), 2, np.uint8)).save(target / "masks" / "5.png")
    with pytest.raises(UsageError, match="edited"):
        prepare("labelme", source, target)
    assert (target / "masks" / "5.png").exists()


def test_an_image_that_was_replaced_or_changed_in_place(source, target, picture):
    prepare("labelme", source, target)
    (source / "0.png").unlink()
    picture(source / "0.png")  # a new file: the link in the target is to the old one
    stream = open(source / "1.png", "r+b")
    with stream:  # the same file, to which the target has a link
        data = picture(source.parent / "other.png").read_bytes()
        stream.truncate(0)
        stream.write(data)
    done = prepare("labelme", source, target)
    assert set(done.remade) == {"images/0.png", "images/1.png"}
    assert all((target / "images" / f"{i}.png").read_bytes() == (source / f"{i}.png").read_bytes() for i in range(6))


def test_copies_are_updated_too(source, target, picture, monkeypatch):
    """On a file system without hard links."""
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    prepare("labelme", source, target)
    (source / "0.png").unlink()
    picture(source / "0.png")
    assert prepare("labelme", source, target).remade == ("images/0.png",)
    assert (target / "images" / "0.png").read_bytes() == (source / "0.png").read_bytes()


def test_another_source_does_not_replace_the_first(draw, source, target, tmp_path):
    prepare("labelme", source, target)
    shutil.copytree(source, tmp_path / "moved")  # with the times of the files
    assert prepare("labelme", tmp_path / "moved", target).kept == 12
    for i in range(3):
        (tmp_path / "moved" / f"{i}.json").unlink()
    prepare("labelme", source, target)
    with pytest.raises(UsageError, match="another source") as error:
        prepare("labelme", tmp_path / "moved", target)
    assert "again: 0, to be removed: 6" in error.value.received
    assert str(source) in error.value.received and str(tmp_path / "moved") in error.value.received
    done = prepare("labelme", tmp_path / "moved", target, force=True)
    assert len(done.removed) == 6 and done.made == 6 and done.remade == ()  # the others were up to date


def test_files_that_were_there_before(source, target, text, picture, tmp_path):
    text(target / "classes.txt", "mine")
    with pytest.raises(UsageError, match="files that this preparation did not make") as error:
        prepare("labelme", source, target)
    assert error.value.received == "classes.txt" and (target / "classes.txt").read_text() == "mine\n"
    assert prepare("labelme", source, target, force=True).audit.passed
    # beside the outputs: their ids are those of other classes
    (target / STAMP).unlink()
    shutil.copy(target / "masks" / "0.png", target / "masks" / "mine.png")
    for force in (False, True):
        with pytest.raises(UsageError) as error:
            prepare("labelme", source, target, force=force)
    assert "unknown origin" in error.value.what and error.value.received == "masks/mine.png"
    (target / "masks" / "mine.png").unlink()
    assert prepare("labelme", source, target, force=True).audit.passed


def test_files_added_by_hand_do_not_outlive_a_change_of_the_classes(draw, source, target):
    prepare("labelme", source, target)
    for kind in ("images", "masks"):
        shutil.copy(target / kind / "0.png", target / kind / "mine.png")
    assert prepare("labelme", source, target).audit.passed  # they fit as long as the ids mean the same
    draw("6", "bird")
    with pytest.raises(UsageError, match="files of unknown origin"):
        prepare("labelme", source, target)
    assert not (target / "masks" / "6.png").exists()


def test_a_link_out_of_the_target_is_not_followed(source, target, tmp_path):
    (target / "masks").mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    (target / "masks" / "0.png").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="did not make"):
        prepare("labelme", source, target)
    prepare("labelme", source, target, force=True)
    assert (tmp_path / "precious").read_text() == "precious" and not (target / "masks" / "0.png").is_symlink()


@pytest.mark.parametrize("stamp", [
    '{"preparation": "labelme", "classes": null}\n',  # as the version before wrote it
    '{"form": 99, "preparation": "labelme", "source": "", "classes": [], "outputs": {}, "unfinished": []}',
    "{", "[]", "",
])
def test_an_older_or_damaged_stamp_is_not_trusted(source, target, stamp):
    prepare("labelme", source, target)
    (target / STAMP).write_text(stamp)
    (target / "masks" / "1.png").write_bytes((target / "masks" / "0.png").read_bytes())
    with pytest.raises(UsageError, match="record of what each file was made from") as error:
        prepare("labelme", source, target)
    assert "--force" in error.value.fix
    assert prepare("labelme", source, target, force=True).made == 12
    assert prepare("labelme", source, target).kept == 12


@pytest.mark.parametrize("name", ["../victim", "/tmp/victim", "masks/../../victim"])
def test_a_stamp_cannot_name_files_outside(source, target, tmp_path, name):
    prepare("labelme", source, target)
    (tmp_path / "victim").write_text("x")
    stamp = json.loads((target / STAMP).read_text())
    found = (tmp_path / "victim").stat()
    stamp["outputs"][name] = ["origin", [found.st_size, found.st_mtime_ns], 0]
    (target / STAMP).write_text(json.dumps(stamp))
    with pytest.raises(UsageError, match="damaged"):
        prepare("labelme", source, target)
    assert (tmp_path / "victim").exists()


@pytest.mark.parametrize("kind", ["preparation", "source", "classes", "outputs", "unfinished", "form"])
@pytest.mark.parametrize("value", [None, 5, "x", [1, None], {"a": 1}, {"a": ["o", [float("inf"), 1], 0]}, True])
def test_an_edited_stamp_raises_our_errors_only(source, target, kind, value):
    prepare("labelme", source, target)
    stamp = json.loads((target / STAMP).read_text())
    stamp[kind] = value
    (target / STAMP).write_text(json.dumps(stamp))
    try:
        prepare("labelme", source, target)
    except MXNetSegError:
        pass


@pytest.mark.parametrize("link", ["0", "../0", "/0"])
def test_a_name_that_leaves_the_target_is_refused(voc_and_sbd, tmp_path, text, link):
    source, _ = voc_and_sbd
    text(source / "benchmark_RELEASE" / "dataset" / "train.txt", "s1", link if link != "/0" else str(tmp_path / "0"))
    with pytest.raises(MXNetSegError) as error:
        prepare("pascalvocaug", source, tmp_path / "a" / "b")
    assert ("leads out of the target" in error.value.what) == (link != "0")
    assert not [p for p in tmp_path.rglob("*0.jpg")] and not (link != "0" and (tmp_path / "a").exists())


def test_in_the_folder_of_the_source_its_files_stay(tmp_path, picture, text):
    """PASCAL-Context is made inside VOC 2010: its images are the source's own and must survive all that happens."""
    voc = tmp_path / "VOC2010"
    images = [picture(voc / "JPEGImages" / f"{name}.jpg") for name in "ab"]
    content = {"images": [{"image_id": i, "file_name": f"{name}.jpg", "phase": phase, "height": 24, "width": 32}
                          for i, (name, phase) in enumerate((("a", "train"), ("b", "val")))],
               "annos_segmentation": [{"image_id": i, "category_id": 2, "segmentation": [[0, 0, 9, 0, 9, 9]]}
                                      for i in range(2)]}
    text(voc / "trainval_merged.json", content)
    bytes_before = [path.read_bytes() for path in images]
    assert prepare("pascalcontext", voc, voc).audit.passed
    picture(images[0])
    prepare("pascalcontext", voc, voc)
    prepare("pascalcontext", voc, voc, force=True)
    text(voc / "trainval_merged.json", {**content, "images": content["images"][1:]})
    assert prepare("pascalcontext", voc, voc).removed == ("SegmentationClassContext/a.png",)
    assert images[0].exists() and images[1].read_bytes() == bytes_before[1]


# ---- interrupted runs

def test_an_interrupted_update_leaves_nothing_stale(draw, source, target, monkeypatch):
    prepare("labelme", source, target)
    draw("6", "bird", "cat")
    honest, calls = base.cv2.imencode, []

    def encode(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(base.cv2, "imencode", encode)
        with pytest.raises(KeyboardInterrupt):
            prepare("labelme", source, target, workers=1)
    assert not (target / "classes.txt").exists()  # with the old one the new masks would be read wrongly
    assert all(png(p)[6, -1] == 3 for p in (target / "masks").iterdir())  # dog in the new list
    again = prepare("labelme", source, target)
    assert again.kept > 6 and again.kept + again.made == 14 and again.audit.passed
    assert all(rows(target, i)[:2] == ["cat", "dog"] for i in range(6))


def test_a_run_stopped_before_it_removes_what_is_outdated(draw, source, target, monkeypatch):
    from mxnetseg.data.prepare.stamp import Stamp

    def stop(*_):
        raise KeyboardInterrupt

    prepare("labelme", source, target)
    draw("6", "bird", "cat")
    (source / "0.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Stamp, "_remove", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare("labelme", source, target)
    (source / "1.json").unlink()
    done = prepare("labelme", source, target)
    assert set(done.removed) == {f"{kind}/{i}.png" for kind in ("images", "masks") for i in "01"}
    assert sorted(p.name for p in (target / "masks").iterdir()) == [f"{i}.png" for i in (2, 3, 4, 5, 6)]
    assert all(rows(target, i)[:2] == ["cat", "dog"] for i in (2, 3, 4, 5))


@pytest.mark.parametrize("change", [False, True])
def test_a_killed_run_is_resumed(tmp_path, draw, source, target, change):
    """SIGKILL in the middle, several times; then classes change before it is resumed."""
    for i in range(6, 60):
        draw(f"{i}", "cat", "dog")
    script = ("import sys, time; from mxnetseg.data.prepare import base, prepare; honest = base.cv2.imencode\n"
              "def slow(*a):\n    time.sleep(0.02); return honest(*a)\n"
              "base.cv2.imencode = slow; prepare('labelme', *sys.argv[1:], workers=2)")
    kept = []
    for n in (10, 25, 40):
        process = subprocess.Popen([sys.executable, "-c", script, str(source), str(target)], env={**os.environ})
        while process.poll() is None and len(list((target / "masks").glob("*.png"))) < n:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (target / JOURNAL).exists() and not (target / "classes.txt").exists()
        kept.append(len((target / JOURNAL).read_text().splitlines()))
    with open(target / JOURNAL, "a") as journal:
        journal.write('["masks/59.png", "0123')  # a line that was cut off
    if change:
        draw("60", "bird", "cat")
    done = prepare("labelme", source, target)
    assert done.audit.passed and all(rows(target, i)[:2] == ["cat", "dog"] for i in range(60))
    assert done.kept >= (2 if change else 60) and not (target / JOURNAL).exists()
    assert prepare("labelme", source, target).made == 0


def test_a_failure_before_the_first_output_blocks_nothing(painted_wrongly, tmp_path, text):
    """prepare colours once refused what its own message had advised."""
    source, target = painted_wrongly, tmp_path / "out"
    with pytest.raises(DataError, match="belong to no class") as error:
        prepare("colours", source, target)
    assert not target.exists()  # the masks are looked at before anything is written
    advised = error.value.fix.splitlines()[1:]
    text(source / "classes.txt", "ground #102030", "dog #ff0000", *advised)
    assert prepare("colours", source, target).audit.passed


def test_a_failure_of_a_late_mask_blocks_nothing(painted_wrongly, tmp_path, text, monkeypatch):
    from mxnetseg.data.prepare import colours

    source, target = painted_wrongly, tmp_path / "out"
    monkeypatch.setattr(colours, "_TRIED", 1)
    Image.fromarray(np.full((24, 32, 3), (16, 32, 48), np.uint8)).save(source / "masks" / "0.png")  # the first is well
    with pytest.raises(DataError, match="belong to no class"):
        prepare("colours", source, target, workers=1)
    assert (target / "masks" / "0.png").exists()
    text(source / "classes.txt", "ground #102030", "cat #00ff00")
    assert prepare("colours", source, target).audit.passed


@pytest.fixture
def painted_wrongly(tmp_path, picture, text, ids):
    """Two pairs; classes.txt lacks the colour of the cats."""
    source = tmp_path / "painted"
    (source / "masks").mkdir(parents=True)
    for i in range(2):
        picture(source / "images" / f"{i}.jpg")
        Image.fromarray(np.array([(16, 32, 48), (0, 255, 0)], np.uint8)[ids(2)]).save(source / "masks" / f"{i}.png")
    text(source / "classes.txt", "ground #102030", "dog #ff0000")
    return source


@pytest.mark.parametrize("stamp", [
    {"form": 2, "preparation": "pascalvocaug", "source": "/x", "classes": ["a"], "outputs": {},
     "unfinished": ["img_aug/v1.jpg"]},
    {"preparation": "pascalvocaug", "classes": "a\n"},
])
def test_a_stamp_of_a_run_that_made_nothing_binds_nobody(source, target, stamp):
    target.mkdir()
    (target / STAMP).write_text(json.dumps(stamp))
    assert prepare("labelme", source, target).audit.passed


def test_the_stamp_is_written_a_few_times_only(source, target, monkeypatch):
    from mxnetseg.data.prepare import stamp

    written = []
    honest = stamp.atomic_write
    monkeypatch.setattr(stamp, "atomic_write", lambda *a: written.append(a) or honest(*a))
    prepare("labelme", source, target)
    prepare("labelme", source, target)
    assert len(written) == 2


def test_a_full_disk_at_the_journal(source, target, monkeypatch):
    from mxnetseg.data.prepare import stamp

    class Full(StringIO):
        def flush(self):
            if not self.closed:
                raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            super().close()
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stamp, "open", lambda *_, **__: Full(), raising=False)
        with pytest.raises(EnvironmentProblem, match="record of the files made") as error:
            prepare("labelme", source, target)
    assert "No space left" in error.value.received
    assert prepare("labelme", source, target).audit.passed


def test_a_source_that_goes_and_comes_back(source, target):
    prepare("labelme", source, target)
    file = source / "0.json"
    text = file.read_text()
    file.unlink()
    prepare("labelme", source, target)
    file.write_text(text)
    done = prepare("labelme", source, target)
    assert (done.made, done.kept, done.removed) == (2, 10, ())
