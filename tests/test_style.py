"""The language rules of CONTRIBUTING.md that a program can check."""
from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(p for folder in ("mxnetseg", "benchmarks", "scripts", "tests") for p in (ROOT / folder).rglob("*.py")
              if p != Path(__file__).resolve())
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "weights").glob("*.md"),
                *(ROOT / "tests").rglob("*.md"), *(ROOT / "demo").rglob("*.md"), *(ROOT / ".github").rglob("*.md"),
                *(ROOT / "mxnetseg").rglob("*.md")])
SETTINGS = sorted((ROOT / "configs").glob("*.yaml"))

# retired words -> what to write instead
RETIRED = {
    r"pictures?": "image",
    r"(?:to|not|cannot|can|could) be had": "available, could not be downloaded",
    r"mend(?:s|ed|ing)?": "fix",
    r"told|tells": "given, reports, specifies",
    r"behind": "after, following",
    r"(?<=, )for (?:it|they|there|then|we|nothing|both|then)": "because, since",
    r"ha(?:s|ve) not(?! (?:yet|been|\w+ed|seen|met|begun|found|changed)\b)": "does not have",
    r"dealt(?: out)?": "split across",
    r"in turns": "alternately",
    r"goes on from": "resumes from",
    r"what \w+ (?:makes|make) of": "the result of",
    r"whoever|nobody|somebody": "the caller, the user",
    r"an own|names of ours": "its own, our names",
    r"reckon(?:s|ed)?": "computed",
    r"whatever|be it": "whether; drop",
    r"mirrored|mirroring": "flip",
}
RETIRED_WORDS = re.compile("|".join(rf"(?P<w{i}>\b(?:{words})\b)" for i, words in enumerate(RETIRED)), re.IGNORECASE)
OPENINGS = re.compile(r"(?:What|Our|Whether|Where|Of|By|Those|How|Is|Are|Does|Has)\b")

# Lines that keep a retired word in another sense.
ALLOWED = (
    r"painting, picture|somebody, soul|individual, someone|\"picture\"|^\s*picture\b",  # class names
)
KEPT = re.compile("|".join(ALLOWED), re.IGNORECASE)


def test_no_retired_word():
    found = []
    for path in [*CODE, *PAGES, *SETTINGS]:
        for line, text in _texts(path):
            for match in RETIRED_WORDS.finditer(text):
                if not KEPT.search(text):
                    found.append(f"{path.relative_to(ROOT)}:{line}: {match[0]!r}, "
                                 f"write: {list(RETIRED.values())[int(match.lastgroup[1:])]}")
    assert not found, f"{len(found)} retired words:\n" + "\n".join(found)


def test_docstrings_open_with_an_imperative_or_a_noun_phrase():
    found = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                match = OPENINGS.match(ast.get_docstring(node) or "")
                if match:
                    line = getattr(node, "lineno", 1)
                    found.append(f"{path.relative_to(ROOT)}:{line}: {ast.get_docstring(node).splitlines()[0]}")
    assert not found, f"{len(found)} docstrings open like a clause:\n" + "\n".join(found)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of what people read: comments and strings of code, whole lines of other files."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING) or token.type == _FSTRING:
                for offset, text in enumerate(token.string.splitlines()):
                    yield token.start[0] + offset, text
    elif path.suffix == ".yaml":
        for number, text in enumerate(source.splitlines(), 1):
            if "#" in text:
                yield number, text[text.index("#"):]
    else:
        yield from enumerate(source.splitlines(), 1)


_FSTRING = getattr(tokenize, "FSTRING_MIDDLE", None)  # from Python 3.12 on, an f-string is several tokens
