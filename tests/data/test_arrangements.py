"""The ways in which data sets arrange their files, apart from any data set; the parts that are held out."""
import miniatures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.data import get_dataset
from mxnetseg.data.layouts import hold_out, split_line
from mxnetseg.errors import DataError


@given(st.integers(0, 400), st.floats(0.01, 0.99))
def test_held_out_and_kept_are_all_in_their_order(n, share):
    kept, held = hold_out(range(n), share=share)
    assert sorted(kept + held) == list(range(n)) and kept == sorted(kept) and held == sorted(held)
    assert len(held) == (0 if n < 2 else min(max(1, round(share * n)), n - 1))


def test_what_is_held_out_never_changes():
    assert hold_out(range(30))[1] == [2, 11, 26]
    assert hold_out("abcdefghij", share=0.3)[1] == ["c", "e", "g"]


@pytest.mark.parametrize("count, share, held", [(9000, 0.1, 900), (5285, 0.1, 528), (715, 0.2, 143)])
def test_held_out_of_the_published_lists(count, share, held):
    assert len(hold_out(range(count), share=share)[1]) == held


@pytest.mark.parametrize("line, words", [
    ("a.jpg b.png", ["a.jpg", "b.png"]), ("a b.jpg\tc d.png", ["a b.jpg", "c d.png"]),
    ("a b.jpg, c.png", ["a b.jpg", "c.png"]), ("a.jpg", ["a.jpg"]), ("a  b   c", ["a", "b", "c"])])
def test_fields_of_a_line(line, words):
    assert split_line(line) == words


@pytest.mark.parametrize("line", ["2008_1", "2008_1.jpg", "  2008_1\t"])
def test_a_name_may_have_its_suffix(tmp_path, line):
    mini = miniatures.sbd(tmp_path)
    mini.lists["train"].write_text(line + "\r\n")
    assert get_dataset("sbd", root=mini.root)[0].name == "2008_1"


def test_a_name_may_have_dots_and_folders(tmp_path):
    mini = miniatures.siftflow(tmp_path)
    mini.lists["train"].write_text("coast\\v1.5_x\n")
    miniatures.write_pairs(mini, {"coast/v1.5_x": ("images/{}.jpg", "labels/{}.png")})
    assert get_dataset("siftflow", root=mini.root)[0].name == "coast/v1.5_x"


def test_all_mistakes_of_a_list_are_collected(tmp_path):
    mini = miniatures.sunrgbd(tmp_path)
    mini.lists["train"].write_text("a_1.jpg a_1.png\na_2.jpg a_2.png x\na_1.jpg a_1.png\na_3.jpg a_3.png y\n")
    problems = []

    class Patient(type(get_dataset("sunrgbd", split="test", root=mini.root))):
        def _check_pairs(self):
            problems.extend(self.problems)

    Patient(root=mini.root, split="trainval")
    where = [str(problem.where).rpartition("/")[2] for problem in problems]
    assert where == ["train.txt, entry 2", "train.txt, entry 4", "train.txt"]
    with pytest.raises(DataError, match="not a pair"):
        get_dataset("sunrgbd", root=mini.root)
