"""Run the commands of docs/custom-data.md, in order, on the folders that it describes."""
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data.prepare import PREPARATIONS
from mxnetseg.tools.main import COMMANDS, run_command

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "custom-data.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
         for line in block.splitlines()]
SLOW = ("train", "eval")
COLOURS = np.array([(16, 32, 48), (0, 255, 0)], np.uint8)


@pytest.fixture
def folders(tmp_path):
    """``pets``, folder data, and ``painted``, the same with masks in colours."""
    root, rng = tmp_path, np.random.default_rng(2)
    for folder, names in (("pets", "ground\ncat\n"), ("painted", "ground #102030\ncat #00ff00\n")):
        for subfolder in ("images", "masks"):
            (root / folder / subfolder).mkdir(parents=True)
        (root / folder / "classes.txt").write_text(names)
    for i in range(10):
        mask = np.zeros((64, 64), np.uint8)
        mask[5 * i:5 * i + 20, 10:40] = 1
        image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8) + 150 * mask[..., None]
        for folder, content in (("pets", mask), ("painted", COLOURS[mask])):
            Image.fromarray(image).save(root / folder / "images" / f"{i}.jpg")
            Image.fromarray(content).save(root / folder / "masks" / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield root


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_commands_in_order(folders, slow, capsys):
    """Run all commands in one test, because a command needs the files of earlier ones."""
    for line in LINES:
        command, *rest = shlex.split(line)[1:]
        if command in SLOW and not slow:
            continue
        more = ["--epochs", "1", "--batch-size", "4", "--quiet"] if command == "train" else []
        assert run_command(command, rest + more) == 0, (line, capsys.readouterr())


def test_commands_and_preparations_named_exist():
    assert set(re.findall(r"`mxnetseg ([a-z][\w-]*)", PAGE)) <= set(COMMANDS)
    assert all(PREPARATIONS.resolve(name) for name in re.findall(r"mxnetseg prepare ([a-z-]+) ", PAGE))


def test_pages_named_exist():
    assert all((ROOT / "docs" / target).exists() for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE))
