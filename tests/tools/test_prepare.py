"""``mxnetseg prepare``: the list, the output, the exit codes."""
import numpy as np
import pytest
from PIL import Image

from mxnetseg.config import load_config
from mxnetseg.data.prepare import PREPARATIONS, base
from mxnetseg.tools.main import main

COLOURS = np.array([(16, 32, 48), (0, 255, 0)], np.uint8)


@pytest.fixture
def painted(tmp_path):
    """Five images with masks in two colours."""
    rng, source = np.random.default_rng(5), tmp_path / "painted"
    for i in range(5):
        for folder, array, suffix in (("images", rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), "jpg"),
                                      ("masks", COLOURS[rng.integers(0, 2, (30, 40))], "png")):
            (source / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(source / folder / f"{i}.{suffix}")
    (source / "classes.txt").write_text("ground #102030\ncat #00ff00\n")
    return source


def test_the_list(capsys):
    assert main(["prepare"]) == 0
    out = capsys.readouterr().out
    assert all(f"mxnetseg prepare {name} SRC DST\n  SRC: " in out for name in PREPARATIONS.names())


def test_from_colours_to_a_configuration(painted, tmp_path, capsys):
    target = tmp_path / "pets"
    assert main(["prepare", "colors", str(painted), str(target), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "10 files made, 0 up to date" in out and "pets: 2 classes" in out and out.endswith("passed\n")
    assert main(["prepare", "colours", str(painted), str(target)]) == 0
    assert "0 files made, 10 up to date" in capsys.readouterr().out
    assert main(["check-data", str(target), "--write-config", str(tmp_path / "pets.yaml")]) == 0
    assert load_config(tmp_path / "pets.yaml").data.name == f"folder:{target}"


def test_a_result_that_fails_its_audit(painted, tmp_path, capsys):
    (painted / "images" / "0.jpg").write_bytes(b"not an image")
    assert main(["prepare", "colours", str(painted), str(tmp_path / "pets")]) == 1
    assert "failed: 1 problem to fix" in capsys.readouterr().out


def test_an_interrupted_run_resumes(painted, tmp_path, monkeypatch, capsys):
    calls, original = [], base.cv2.imencode

    def encode(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    command = ["prepare", "colours", str(painted), str(tmp_path / "pets"), "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(base.cv2, "imencode", encode)
        assert main(command) == 130
    assert "interrupted" in capsys.readouterr().err
    assert main(command) == 0
    assert " 0 up to date" not in capsys.readouterr().out


def test_a_damaged_source(painted, tmp_path, capsys):
    (painted / "masks" / "3.png").write_bytes((painted / "masks" / "3.png").read_bytes()[:60])
    assert main(["prepare", "colours", str(painted), str(tmp_path / "pets")]) == 1
    err = capsys.readouterr().err
    assert "3.png" in err and "cannot be decoded" in err


@pytest.mark.parametrize("arguments, words", [
    (["colour"], "did you mean 'colours'"),
    (["nyuv2"], "needs a source and a target"),
    (["nyuv2", "SRC"], "splits.mat"),
    (["nyuv2", "SRC", "DST"], "the source lacks"),
    (["nyuv2", "SRC", "DST", "--classes", "c.txt"], "takes no classes"),
    (["colours", "/nowhere", "DST"], "no such source"),
    (["colours", "SRC", "DST", "--workers", "0"], "at least 1"),
    (["colours", "SRC", "DST", "--classes", "/nowhere.txt"], "missing"),
    (["colours", "SRC", "FILE"], "no file can be written there"),
])
def test_wrong_use(painted, tmp_path, arguments, words, capsys):
    (tmp_path / "file").write_text("")
    paths = {"SRC": str(painted), "DST": str(tmp_path / "out"), "FILE": str(tmp_path / "file")}
    assert main(["prepare", *(paths.get(a, a) for a in arguments)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
