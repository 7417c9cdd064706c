"""`mxnetseg report`: files, messages and exit codes."""
from evaluations import evaluation

from mxnetseg.tools.main import run_command


def report(*arguments):
    return run_command("report", [str(a) for a in arguments])


def test_two_evaluations(tmp_path, capsys):
    one, two = evaluation(tmp_path / "one"), evaluation(tmp_path / "two", worse=20)
    assert report(one, two, "--out", tmp_path / "page.html", "--title", "My field", "--samples", 20) == 0
    out = capsys.readouterr().out
    assert f"A  {one}" in out and f"B  {two}" in out and str(tmp_path / "page.html") in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>My field</title>" in page and "20 bootstrap samples" in page


def test_bad_input_writes_nothing(tmp_path, capsys):
    one, two = evaluation(tmp_path / "one"), evaluation(tmp_path / "two", split="test")
    damaged = evaluation(tmp_path / "damaged")
    (damaged / "details/counts.npz").write_bytes(b"PK")
    out = tmp_path / "page.html"
    for arguments, code, words in (
            ([tmp_path / "nowhere"], 2, "the evaluation is not there"),
            ([tmp_path], 2, "several evaluations"),
            ([one, two], 2, "evaluations of other splits"),
            ([one, damaged], 1, "counts of the evaluation are damaged"),
            ([one] * 7, 2, "1 to 6 evaluations"),
            ([one, "--out", tmp_path / "page.pdf"], 2, f"--out {out}")):
        assert report(*arguments, *([] if "--out" in arguments else ["--out", out])) == code
        assert words in capsys.readouterr().err
    assert not out.exists() and not (tmp_path / "page.pdf").exists()
