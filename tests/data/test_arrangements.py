"""Common layouts of data sets, and the images that are held out for validation."""
import unicodedata

import miniatures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.data import get_dataset
from mxnetseg.data.layouts import _hash_number, hold_out, split_line
from mxnetseg.data.splits import group_of
from mxnetseg.errors import DataError

NAMES = st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=6), max_size=60, unique=True)


def itself(name):
    return name


@given(NAMES, st.floats(0.01, 0.99), st.booleans())
def test_every_name_is_kept_or_held_out_in_order(names, fraction, exact):
    kept, held = hold_out(names, name=itself, fraction=fraction, exact=exact)
    assert sorted(kept + held) == sorted(names)
    assert kept == [n for n in names if n in kept] and held == [n for n in names if n in held]
    distinct = len({group_of(unicodedata.normalize("NFC", n)) for n in names})
    if distinct > 1:
        assert kept and held
    if exact and distinct == len(names):
        assert len(held) == (0 if len(names) < 2 else min(max(1, round(fraction * len(names))), len(names) - 1))


def test_the_held_out_names_never_change():
    names = [f"{i:03d}" for i in range(40)]
    assert hold_out(names)[1] == ["006", "011", "028", "031"]
    assert hold_out(names, fraction=0.2, exact=True)[1] == ["003", "006", "011", "016", "028", "030", "031", "032"]


@given(st.sets(st.integers(0, 10 ** 6), min_size=100, max_size=130), st.data())
def test_added_images_move_no_other(numbers, data):
    names = sorted(f"img_{n}" for n in numbers)
    before = set(data.draw(st.lists(st.sampled_from(names), min_size=90, unique=True)))
    kept, held = hold_out(sorted(before))
    kept_after, held_after = hold_out(names)
    if any(_hash_number(name) < 0.1 for name in before):
        assert set(kept) <= set(kept_after) and set(held) <= set(held_after)


def test_images_added_to_a_hundred_move_no_other():
    for new in range(100, 200):
        names = [f"{i:05d}" for i in range(100)]
        kept, held = hold_out(names)
        kept_after, held_after = hold_out(sorted([*names, f"{new:05d}", f"0000{new}"]))
        assert set(kept) <= set(kept_after) and set(held) <= set(held_after)


@given(NAMES, st.text(max_size=4))
def test_an_added_name_never_moves_a_training_name(names, new):
    """Ignore the exception for tiny data, in which every name would be held out."""
    names = [name for name in names if _hash_number(group_of(name)) >= 0.1]
    kept, _ = hold_out(names, name=itself)
    assert set(kept) - {new} <= set(hold_out([*names, new], name=itself)[0]) or len(names) < 2


@given(st.sets(st.integers(0, 999), min_size=2, max_size=60), st.integers(0, 999))
def test_with_an_exact_fraction_at_most_one_name_moves(numbers, new):
    before, after = (set(hold_out([str(n) for n in sorted(some)], fraction=0.2, exact=True)[1])
                     for some in (numbers, numbers | {new}))
    assert len((before ^ after) - {str(new)}) <= 1


def test_about_the_fraction_is_held_out():
    for fraction in (0.05, 0.1, 0.3):
        count = len(hold_out([f"frame_{i}" for i in range(20000)], fraction=fraction)[1])
        assert abs(count / 20000 - fraction) < 0.01


@pytest.mark.parametrize("count, fraction, held", [(9000, 0.1, 900), (5285, 0.1, 528), (715, 0.2, 143)])
def test_number_held_out_of_the_published_lists(count, fraction, held):
    assert len(hold_out([f"{i:06d}" for i in range(count)], fraction=fraction, exact=True)[1]) == held


def test_copies_of_one_image_stay_together():
    names = [f"img{i}_jpg.rf.{copy:032x}" for i in range(60) for copy in range(3)]
    kept, held = hold_out(names)
    assert held and not {n.split(".rf.")[0] for n in kept} & {n.split(".rf.")[0] for n in held}


def test_the_encoding_of_accents_does_not_matter():
    names = [f"caf\u00e9 {i}" for i in range(50)]
    decomposed = [unicodedata.normalize("NFD", name) for name in names]
    assert hold_out(decomposed)[1] == [unicodedata.normalize("NFD", name) for name in hold_out(names)[1]] != []


@pytest.mark.parametrize("line, words", [
    ("a.jpg b.png", ["a.jpg", "b.png"]), ("a b.jpg\tc d.png", ["a b.jpg", "c d.png"]),
    ("a b.jpg, c.png", ["a b.jpg", "c.png"]), ("a.jpg", ["a.jpg"]), ("a  b   c", ["a", "b", "c"])])
def test_fields_of_a_line(line, words):
    assert split_line(line) == words


@pytest.mark.parametrize("line", ["2008_1", "2008_1.jpg", "  2008_1\t"])
def test_a_name_may_have_a_suffix(tmp_path, line):
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

    class Lenient(type(get_dataset("sunrgbd", split="test", root=mini.root))):
        def _check_pairs(self):
            problems.extend(self.problems)

    Lenient(root=mini.root, split="trainval")
    where = [str(problem.where).rpartition("/")[2] for problem in problems]
    assert where == ["train.txt, entry 2", "train.txt, entry 4", "train.txt"]
    with pytest.raises(DataError, match="not a pair"):
        get_dataset("sunrgbd", root=mini.root)


@pytest.mark.parametrize("name, line", [
    ("sbd", "../../x"), ("sbd", "/etc/x"), ("sbd", "..\\x"), ("sunrgbd", "../../x.jpg a_1.png"),
    ("sunrgbd", "/etc/x.jpg a_1.png"), ("sunrgbd", "a_1.jpg ../../x.png"), ("pascalvoc", "../../x"),
    ("pascalvocaug", "/x/2007_1.jpg 2007_1.png")])
def test_a_line_outside_the_data_set_is_refused(tmp_path, name, line):
    mini = miniatures.MAKERS[name](tmp_path)
    mini.lists["train"].write_text(line + "\n")
    with pytest.raises(DataError, match="outside the data set") as error:
        get_dataset(name, root=mini.root)
    assert error.value.received == line and str(error.value.where).endswith(", entry 1")


def test_an_absolute_path_inside_the_data_set_is_accepted(tmp_path):
    mini = miniatures.sunrgbd(tmp_path)
    mini.lists["train"].write_text(f"{mini.root.absolute()}/images/a_1.jpg ../labels/a_1.png\na_2.jpg a_2.png\n")
    dataset = get_dataset("sunrgbd", root=mini.root, split="trainval")
    assert [pair.name for pair in map(dataset.pair, range(2))] == ["a_1", "a_2"]


def test_a_camvid_line_outside_the_data_set_is_refused(tmp_path):
    mini = miniatures.camvid(tmp_path)
    mini.lists["train"].write_text("../x.png trainannot/0001TP_1.png\n")
    with pytest.raises(DataError, match="not a pair"):
        get_dataset("camvid", root=mini.root)
