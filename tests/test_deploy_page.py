"""Run the blocks of docs/deploy.md, in order, with a small network; those of docker only as far as files go."""
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sidecars import sections

pytest.importorskip("onnxruntime")

from mxnetseg.tools.main import run_command  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """The working directory that the page assumes: a checkpoint, a photo and images to calibrate on."""
    import mxnet as mx

    from mxnetseg.engine.checkpoint import Checkpoint
    from mxnetseg.models import get_model

    mx.random.seed(0)
    net = get_model("fastscnn", nclass=2)
    (tmp_path / "weights/fcn").mkdir(parents=True)
    Checkpoint(tmp_path / "weights/fcn/NAME_best.params").write(net, sections(
        model={"name": "fastscnn", "nclass": 2},
        normalisation={"mean": list(net.mean), "std": list(net.std)}))
    for name in ("demo", "photos", "models"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "demo/street.png", tmp_path / "demo")
    for flip in (1, -1):
        photo = np.array(Image.open(ROOT / "demo/street.png").convert("RGB"))[:, ::flip]
        Image.fromarray(photo).save(tmp_path / f"photos/{flip}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield tmp_path


class Shell:
    """Runs the lines of a block; programs that it starts in the background end with it."""

    def __init__(self, port):
        self.port, self.background = str(port), []

    def run(self, line):
        words = shlex.split(line.replace("8000", self.port))
        if words[0] == "mxnetseg":
            assert run_command(words[1], words[2:]) == 0, line
        elif words[0] == "python":
            assert words.pop() == "&"
            self.background.append(subprocess.Popen([sys.executable, *words[1:]]))
            self._wait()
        elif words[0] == "curl":
            subprocess.run(words, check=True)
        else:
            assert words[:2] == ["docker", "run"], line
            self._check_docker(line)

    def close(self):
        for process in self.background:
            process.kill()
            process.wait()

    def _wait(self):
        for _ in range(600):
            assert self.background[-1].poll() is None, "the server has ended"
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", int(self.port))) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the server does not listen")

    @staticmethod
    def _check_docker(line):
        """Check that the folder which is mounted holds the repository that the command names."""
        outside, inside = re.search(r"-v \$PWD/(\w+):(/\w+)", line).groups()
        served = re.search(r"--model(?:-repository=|_path )(\S+)", line)[1]
        repository = Path(outside + served[len(inside):])
        model = repository if "model_path" in line else repository / "street"
        assert served.startswith(inside) and (model / "1/model.onnx").is_file() and (model / "config.pbtxt").is_file()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_blocks_in_order(folder, capsys):
    """Run all blocks in one test, because a block needs the files of earlier ones."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shell = Shell(free.getsockname()[1])
    names = {}
    try:
        for language, text in BLOCKS:
            if text.startswith("# server.py"):
                (folder / "server.py").write_text(text)
            elif language == "python":
                exec(compile(text, "docs/deploy.md", "exec"), names)
            else:
                for line in text.splitlines():
                    shell.run(line)
        bad = subprocess.run(["curl", "--silent", "--output", os.devnull, "--write-out", "%{http_code}", "--data", "x",
                              f"http://127.0.0.1:{shell.port}"], capture_output=True, text=True)
    finally:
        shell.close()
    assert bad.stdout == "400"
    served, prediction = np.array(Image.open("classes.png")), names["prediction"]
    assert served.shape == prediction.image.shape[:2] and (served == prediction.class_map).mean() > 0.999
    printed = capsys.readouterr().out
    assert re.search(r"^\[('a'|'b')", printed, re.MULTILINE) and "onnxruntime" in printed
    sizes = {name: (folder / f"{name}.onnx").stat().st_size for name in ("street", "phone_float16", "phone_int8")}
    assert sizes["phone_int8"] < sizes["phone_float16"] < sizes["street"]


def test_the_page_has_a_block_for_each_destination():
    sections_of_page = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections_of_page] == ["To a server", "To a phone", "To a notebook"]
    assert all("```python" in section for section in sections_of_page)
