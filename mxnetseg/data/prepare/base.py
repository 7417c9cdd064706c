"""Base class of the preparations, and the function that runs one: check, make the files, audit the result."""
from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

from ...errors import DataError, DataNotFoundError, MXNetSegError, UsageError
from ...files import PathLike, atomic_write, expand, no_file
from ..audit import audit
from ..base import list_files, read_list
from ..findings import Audit
from ..folder import read_classes
from ..listing import nfc
from ..parallel import TIMEOUT, ProgressCallback, in_parallel, no_progress
from .registry import PREPARATIONS
from .stamp import STAMP, Stamp, fingerprint

__all__ = ["Job", "Preparation", "Prepared", "STAMP", "files_by_name", "fingerprint", "folders", "place", "prepare",
           "read_json", "write_png", "write_text"]

_SEARCH_DEPTH = 4  # levels of folders below the source that are searched for its parts


class Job(NamedTuple):
    """One file to make.

    Attributes:
        target: path of the file; it is made if it does not exist.
        write: writes the file atomically, or leaves it out.
        origin: :func:`fingerprint` of all its sources; for masks whose ids depend on the classes, also of the classes.
            A later run makes the file again if its origin has changed.
        source: the file that :func:`place` links or copies; needed if the target may be this file itself.
    """

    target: Path
    write: Callable[[], None]
    origin: str
    source: Path | None = None


class Prepared(NamedTuple):
    """Result of :func:`prepare`.

    Attributes:
        made: number of files written, including ``remade``.
        kept: number of files that were up to date.
        left_out: number of files that the preparation leaves out.
        audit: audit of the result.
        remade: existing files whose source or classes changed, as paths below the target.
        removed: files whose source no longer exists.
        notes: sentences that the user should read.
    """

    made: int
    kept: int
    left_out: int
    audit: Audit
    remade: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Preparation:
    """Base class of the preparations. A subclass declares the attributes below and implements :meth:`jobs`.

    Args:
        source: folder with the parts that ``needs`` lists, or a folder above it.
        target: folder to write.
        classes: file with the classes (see :func:`~mxnetseg.data.folder.read_classes`), if ``options`` includes it.

    Attributes:
        dataset: name of the data set that reads the result.
        needs: contents of the source, for messages.
        makes: contents of the result, for messages.
        options: names of the optional arguments that the preparation takes.
        takes_all_files: True if it converts all files below the source, so the target must not be inside the source.
        classes: class names, set by :meth:`jobs` if they come from the source.
        notes: sentences that the user should read, added by :meth:`jobs`.
        texts: path below the target -> text, of the lists that :meth:`write_list` added.
    """

    dataset: str = "folder"
    needs: str = ""
    makes: str = ""
    options: tuple[str, ...] = ()
    takes_all_files: bool = False
    classes: tuple[str, ...] = ()

    def __init__(self, source: Path, target: Path, *, classes: Path | None = None):
        self.source, self.target, self.classes_file = source, target, classes
        self.notes: list[str] = []
        self.texts: dict[str, str] = {}

    def jobs(self) -> list[Job]:
        """Return the files to make, in a fixed order. Reads lists and headers only.

        Raises:
            DataNotFoundError, DataError: the source is not as ``needs`` describes it.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Add the lists, which are written last to mark the result as complete. Called after :meth:`jobs`."""

    def result_dataset(self) -> tuple[str, Path]:
        """Return the name and the root of the data set to audit at the end."""
        return self.dataset, self.target

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        """Return the evidence, in one line, that a source is of this format; None if it is not, or if in doubt.

        ``mxnetseg prepare auto`` asks all preparations that override this method. It reads as little as possible.
        """
        return None

    @classmethod
    def chosen_for(cls, src: Path) -> str | None:
        """Return the name of the preparation that converts a source instead of this one, or None."""
        return None

    # ---- helpers for subclasses ----------------------------------------------------------------

    def find(self, *parts: str, what: str, optional: bool = False) -> Path | None:
        """Return the folder, at or below the source, that holds all ``parts``.

        Args:
            parts: paths of files or folders below the folder.
            what: description of the folder, for the message.
            optional: return None if there is no such folder.

        Raises:
            DataNotFoundError: there is no such folder.
        """
        for folder in folders(self.source, _SEARCH_DEPTH):
            if all((folder / part).exists() for part in parts):
                return folder
        if optional:
            return None
        raise self.source_error(f"a folder with {', '.join(parts)} ({what})")

    def source_error(self, what: str) -> DataNotFoundError:
        """Return the error for a source that lacks a part."""
        return DataNotFoundError(f"the source lacks {what}", where=self.source.absolute(),
                                 fix=f"give a SRC that holds, itself or in a folder below: {self.needs}")

    def find_classes_file(self) -> Path | None:
        """Return the file that names the classes: the option's, else the source's classes.txt, else None."""
        default = self.source / "classes.txt"
        return self.classes_file or (default if default.is_file() else None)

    def read_given_classes(self) -> tuple[str, ...] | None:
        """Return the class names in :meth:`find_classes_file`, or None without such a file."""
        file = self.find_classes_file()
        return read_classes(file)[0] if file else None

    def write_classes(self, lines: Iterable[str]) -> None:
        """Add classes.txt: the lines of :meth:`find_classes_file`, or ``lines`` without such a file."""
        given = self.find_classes_file()
        self.write_list("classes.txt", given.read_text(encoding="utf-8-sig").splitlines() if given else lines)

    def write_list(self, name: str, lines: Iterable[str]) -> None:
        """Add a list with one entry a line, to be written below the target."""
        self.texts[name] = "".join(f"{line}\n" for line in lines)

    def copy_lists(self) -> None:
        """Add train.txt, val.txt and test.txt of the source, if it has them."""
        for split in ("train", "val", "test"):
            if (self.source / f"{split}.txt").is_file():
                self.write_list(f"{split}.txt", map(nfc, read_list(self.source / f"{split}.txt")))


def prepare(name: str, source: PathLike, target: PathLike, *, classes: PathLike | None = None, force: bool = False,
            boxes: str | None = None, ids: Mapping[int, int] | str | None = None, reduce_zero_label: bool = False,
            workers: int | None = None, timeout: float = TIMEOUT,
            progress: ProgressCallback | None = None) -> Prepared:
    """Convert a source to the layout that its data set reads, and audit the result.

    The source is not changed. Images that need no conversion become hard links to the source's files if the file
    system allows it, else copies. A file is kept if its sources and classes are unchanged, made again if they changed,
    and removed if its source no longer exists.

    Args:
        name: a name in :data:`~mxnetseg.data.prepare.PREPARATIONS`.
        source: folder with the files that the preparation needs.
        target: folder to write.
        classes: file with the classes, for a preparation with this option.
        force: make all files again, even files that were edited.
        boxes: ``'ignore'`` or ``'fill'`` objects with a box but no outline, for a preparation with this option.
        ids: class id of each value in masks of ids, such as ``{1: 0, 2: 1, 0: 255}`` or ``'1:0,2:1,0:255'``, for a
            preparation with this option.
        reduce_zero_label: ignore the value 0 and subtract one from the others, for a preparation with this option.
        workers: number of threads; default one for each core.
        timeout: seconds to wait for one file.
        progress: wraps a stream of items: ``progress(items, count)``.

    Raises:
        UnknownNameError: there is no such preparation.
        UsageError: the preparation does not take an option; the target is inside the source; or the target holds files
            of another preparation or source, files of unknown origin, or outdated files that were edited.
        DataNotFoundError: the source lacks a part.
        DataError: a source file is damaged. Files made before stay.
        EnvironmentProblem: a package to read the source is not installed.
    """
    preparation_class, name = PREPARATIONS.get(name), PREPARATIONS.resolve(name)
    source, target = expand(source), expand(target)
    options: dict[str, Any] = {} if classes is None else {"classes": Path(classes)}
    options.update({} if boxes is None else {"boxes": boxes})
    options.update({} if ids is None else {"ids": ids})
    options.update({"reduce_zero_label": True} if reduce_zero_label else {})
    if not source.exists():
        raise DataNotFoundError("there is no such source", where=source.absolute(),
                                fix=f"give a SRC that holds {preparation_class.needs}")
    chosen = preparation_class.chosen_for(source)
    if chosen:
        preparation_class, name = PREPARATIONS.get(chosen), chosen
    for option in options:
        if option not in preparation_class.options:
            raise UsageError(f"the preparation {name!r} takes no {option}", received=options[option],
                             fix=f"leave out --{option.replace('_', '-')}")
    if preparation_class.takes_all_files and source.resolve() in (target.resolve(), *target.resolve().parents):
        raise UsageError("the target is inside the source, so its files would be converted as well",
                         where=target.absolute(), fix="choose a DST outside SRC")

    preparation = preparation_class(source, target, **options)
    jobs = _jobs_by_path(preparation.jobs(), target)
    preparation.finish()
    lists = {file: Job(target / file, partial(write_text, target / file, text), fingerprint(text))
             for file, text in preparation.texts.items()}

    stamp = Stamp(target, name, source, preparation.classes)
    stamp.begin({file: job.origin for file, job in {**jobs, **lists}.items()
                 if not _is_own_source(job)}, force=force)
    unfinished = set(stamp.unfinished)

    def make(file: str, job: Job) -> bool | None:
        """Return True if the file was made, False if it was up to date, None if it was left out."""
        if file in unfinished:
            _run(job)
            return stamp.note(file, job.origin) or None
        return False if job.target.exists() else None

    counts = {True: 0, False: 0, None: 0}
    bar = progress or no_progress
    try:
        done = in_parallel(lambda item: make(*item), jobs.items(), workers=workers, timeout=timeout,
                           where=lambda item: item[1].target)
        for made in bar(done, len(jobs)):
            counts[made] += 1
        for file, job in lists.items():
            make(file, job)
        stamp.end()
    finally:
        stamp.close()

    dataset, root = preparation.result_dataset()
    result = audit(dataset, root=root, workers=workers, timeout=timeout, progress=progress)
    return Prepared(counts[True], counts[False], counts[None], result, tuple(n for n in stamp.remade if n in jobs),
                    tuple(stamp.removed), (*stamp.notes, *preparation.notes))


def _jobs_by_path(jobs: Iterable[Job], target: Path) -> dict[str, Job]:
    """Return path below the target -> job.

    Raises:
        DataError: a path leads out of the target, or two sources have the same path.
    """
    found: dict[str, Job] = {}
    for job in jobs:
        parts = job.target.relative_to(target).parts if target in job.target.parents else ("..",)
        if ".." in parts:
            raise DataError("a name in the source leads out of the target", where=target.absolute(),
                            received=job.target, fix="correct this name in the source's lists or annotations")
        file = "/".join(parts)
        if found.setdefault(file, job).origin != job.origin:
            raise DataError("two source files become the same target file", where=job.target,
                            fix="rename one of them")
    return found


def _is_own_source(job: Job) -> bool:
    """Return whether source and target of a job are the same file, which must stay."""
    return job.source is not None and os.path.realpath(job.source) == os.path.realpath(job.target)


def _run(job: Job) -> None:
    """Run a job. An exception of a library becomes an error with the name of the file."""
    try:
        job.write()
    except MXNetSegError:
        raise
    except Exception as error:
        raise DataError("a file could not be made from its source", where=job.target,
                        received=f"{type(error).__name__}: {error}",
                        fix="check the source file of this name, then run again; files made so far are kept") from error


def folders(top: Path, depth: int) -> Iterator[Path]:
    """Yield ``top`` and the folders below it, nearest first."""
    level = [top] if top.is_dir() else []
    for _ in range(depth):
        yield from level
        below: list[Path] = []
        for folder in level:
            with os.scandir(folder) as entries:
                below += sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
        level = below
    yield from level


# ---- files ----------------------------------------------------------------------------------


def place(source: Path, target: Path) -> None:
    """Link a source file into the target, or copy it if the file system has no hard links.

    Raises:
        DataNotFoundError: the source file does not exist.
    """
    if not source.is_file():
        raise DataNotFoundError("a source file is missing", where=source,
                                fix="unpack the source again, then run again; files made so far are kept")
    if target.exists():
        if os.path.samefile(source, target):
            return
        target.unlink()

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        with open(source, "rb") as stream, atomic_write(target) as copy:
            shutil.copyfileobj(stream, copy)


def write_png(array: np.ndarray, target: Path) -> None:
    """Write a mask, uint8 (H, W), or an image, uint8 (H, W, 3) RGB, atomically."""
    array = np.ascontiguousarray(array if array.ndim == 2 else array[..., ::-1])
    _, data = cv2.imencode(".png", array)
    with atomic_write(target) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, unless the file holds it already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_write(path, "w") as stream:
        stream.write(text)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataNotFoundError: the file does not exist.
        DataError: it is damaged, not JSON, or not a regular file.
    """
    problem = no_file(path)
    if problem not in (None, "is not there"):
        raise DataError(f"an annotation file {problem}", where=path, fix="restore it from its source, or remove it")
    try:
        return json.loads(path.read_bytes())  # UTF-8, -16 or -32, with or without a byte order mark
    except FileNotFoundError:
        raise DataNotFoundError("an annotation file is missing", where=path,
                                fix="unpack the source again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("an annotation file is damaged or not JSON", where=path, received=error,
                        fix="restore it from its source") from error


def files_by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return path below ``folder`` without extension, in Unicode form NFC -> file.

    Raises:
        DataError: two files have the same name.
    """
    found: dict[str, Path] = {}
    for path in list_files(folder, suffixes):
        name = nfc(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise DataError("two files have the same name", where=f"{found[name]}\n{path}",
                            fix="remove or rename one of them")
        found[name] = path
    return found
