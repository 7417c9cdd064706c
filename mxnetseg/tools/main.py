"""The console command: ``mxnetseg COMMAND ...``, also ``python -m mxnetseg COMMAND ...``.

Each command is a module with ``add_arguments(parser)`` and ``run(args) -> exit code``. It is imported only when the
command runs, so that ``mxnetseg --help`` and ``mxnetseg doctor`` need neither MXNet nor NumPy.

Exit codes: 0 success, 1 a check failed or data is bad, 2 wrong use, 130 interrupted.
"""
from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ..errors import EnvironmentProblem, MXNetSegError, UnknownNameError, UsageError, nearest, printable, short
from ..files import expand

# command -> (module, description), in the order of --help
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("mxnetseg.tools.train", "train a network"),
    "eval": ("mxnetseg.tools.eval", "compute the scores of a checkpoint, or write its predictions"),
    "merge": ("mxnetseg.tools.merge", "join the results of eval --shard or predict --shard"),
    "report": ("mxnetseg.tools.report", "judge an evaluation, or compare several, on one HTML page"),
    "predict": ("mxnetseg.tools.predict", "segment your own images and videos"),
    "demo": ("mxnetseg.tools.demo", "train on the built-in sample, evaluate, draw the results"),
    "convert": ("mxnetseg.tools.convert", "convert published weights to a checkpoint"),
    "export": ("mxnetseg.tools.export", "write a network for PyTorch, ONNX, OpenVINO, MXNet, the hub or a server"),
    "fetch": ("mxnetseg.tools.fetch", "download trained networks before they are needed"),
    "models": ("mxnetseg.tools.models", "list the networks"),
    "summary": ("mxnetseg.tools.summary", "show the size and cost of a network, its paper and published scores"),
    "datasets": ("mxnetseg.tools.datasets", "list the data sets and their folders"),
    "prepare": ("mxnetseg.tools.prepare", "convert downloads, or your own masks, to the layout of a data set"),
    "check-data": ("mxnetseg.tools.check_data", "find problems in a data set, and describe its contents"),
    "browse": ("mxnetseg.tools.browse", "draw images of a data set as stored and as augmented for training"),
    "pack": ("mxnetseg.tools.pack", "write a data set as one file per split, for slow disks"),
    "benchmark": ("mxnetseg.tools.benchmark", "compare the speed of this library, plain MXNet and PyTorch"),
    "config": ("mxnetseg.tools.config", "show, explain or save a configuration"),
    "completion": ("mxnetseg.tools.completion", "print a script that completes commands and options in a shell"),
    "doctor": ("mxnetseg.tools.doctor", "check this installation and report how to fix it"),
}

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``mxnetseg`` with the given arguments (default: those of the process); return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        print(overview(), file=sys.stderr)
        return 2

    name, rest = argv[0], argv[1:]
    if name in ("-h", "--help", "help") and not rest:
        print(overview())
        return 0
    if name == "--version":
        from .. import __version__
        print(f"mxnetseg {__version__}")
        return 0
    if name == "help":
        name, rest = rest[0], ["--help"]
    return run_command(name, rest)


def run_command(name: str, argv: Sequence[str], *, prog: str | None = None) -> int:
    """Run one command; return its exit code. Errors that a user can cause are printed, not raised.

    Args:
        name: a key of :data:`COMMANDS`.
        argv: its arguments.
        prog: name of the program in the usage line; default: ``mxnetseg NAME``.
    """
    prog = prog or f"mxnetseg {name}"
    debug = "--debug" in argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 shows escapes for the letters that it lacks
            stream.reconfigure(errors="backslashreplace")

    try:
        if name not in COMMANDS:
            prog = "mxnetseg"
            raise UnknownNameError("command", name, COMMANDS)
        module = import_module(COMMANDS[name][0])
        parser = Parser(prog=prog, description=COMMANDS[name][1].capitalize() + ".")
        module.add_arguments(parser)
        parser.add_argument("--debug", action="store_true",
                            help="log more, and show the traceback of an error")
        args = parser.parse_intermixed_args(argv) if parser.intermixed else parser.parse_args(argv)
        args.command_line = [name, *argv]
        _expand_paths(args)
        with _logging(debug), redirect_stdout(_Printable(sys.stdout)):
            code = module.run(args)
        sys.stdout.flush()  # here, because a closed pipe is handled below
        return code
    except MXNetSegError as error:
        if debug:
            traceback.print_exc()
        print(printable(f"{prog}: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `mxnetseg models | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if error.name not in ("mxnet", "gluoncv"):
            raise
        if debug:
            traceback.print_exc()
        missing = EnvironmentProblem(f"this command needs {error.name}, which is not installed", received=error,
                                     fix="mxnetseg doctor; without MXNet, predict and eval run networks that "
                                         "`mxnetseg export` wrote")
        print(printable(f"{prog}: {missing}"), file=sys.stderr)
        return missing.exit_code
    except OSError as error:  # on a file: a broken disk, missing permissions, a path too long
        if error.filename is None:
            raise
        if debug:
            traceback.print_exc()
        problem = _as_user_error(error)
        print(printable(f"{prog}: {problem}"), file=sys.stderr)
        return problem.exit_code
    except SystemExit as stop:  # argparse exits with 0 after --help and with 2 after a usage error
        return stop.code if isinstance(stop.code, int) else 2


def _as_user_error(error: OSError) -> MXNetSegError:
    """Return the error message for a file error of the operating system that no other code has handled."""
    if error.errno == errno.ENAMETOOLONG:
        return UsageError("the path is too long", where=short(str(error.filename)), received=error.strerror,
                          fix="give a shorter path")
    return EnvironmentProblem("a file or folder cannot be used", where=error.filename, received=error.strerror,
                              fix="check its permissions and the disk; --debug shows the traceback")


class _Printable:
    """A text stream that writes control characters as escapes."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _expand_paths(args: argparse.Namespace) -> None:
    """Replace a leading ``~`` in paths by the home folder, because shells leave ``--out=~/x`` as it is."""
    for key, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, key, expand(value))
        elif isinstance(value, list):
            setattr(args, key, [expand(item) if isinstance(item, Path) else item for item in value])


def overview() -> str:
    """Return the text of ``mxnetseg --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([
        "usage: mxnetseg COMMAND [options]",
        "",
        "Semantic segmentation for Apache MXNet.",
        "",
        "commands:",
        *lines,
        "",
        "`mxnetseg COMMAND --help` explains a command. `mxnetseg --version` prints the version.",
    ])


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations, which suggests the nearest option for a typo.

    It also takes options in the form that the sweep agent of Weights & Biases writes: ``--batch_size=4`` means
    ``--batch-size=4`` and, if the command has a ``--set``, ``--optimizer.lr=0.001`` means ``--set optimizer.lr=0.001``.

    Attributes:
        intermixed: options may stand between the positional arguments, even if one of these is optional.
    """

    intermixed = False

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args=None, namespace=None):
        """Parse as :class:`argparse.ArgumentParser` does, after rewriting the forms of the sweep agent."""
        return super().parse_known_args(self._as_declared(sys.argv[1:] if args is None else args), namespace)

    def _as_declared(self, args: Sequence[str]) -> list[str]:
        """Rewrite options with underscores, and dotted keys, as the declared options."""
        known, rest = self._option_string_actions, iter(args)
        declared: list[str] = []
        for text in rest:
            option, equals, value = text.partition("=")
            if text == "--":  # what follows are no options
                declared += [text, *rest]
            elif not option.startswith("--") or option in known:
                declared.append(text)
            elif option.replace("_", "-") in known:
                declared.append(option.replace("_", "-") + equals + value)
            elif "--set" in known and "." in option:
                declared += ["--set", f"{option[2:]}={value if equals else next(rest, '')}"]
            else:
                declared.append(text)
        return declared

    def format_usage_line(self) -> str:
        """Return the usage on one line, without the list of options, which ``--help`` prints."""
        shapes = {"?": "[{}]", "*": "[{} ...]", "+": "{} [...]"}
        words = [shapes.get(str(action.nargs), "{}").format(action.metavar or action.dest)
                 for action in self._get_positional_actions()]
        return " ".join(["usage:", self.prog, "[options]", *words]) + f"   (all options: {self.prog} --help)\n"

    def error(self, message: str) -> NoReturn:
        """Print one line of usage, the message and the nearest options; exit with 2."""
        options = [option for option in self._option_string_actions if option.startswith("--")]
        for option in re.findall(r"(?<!\S)--[\w-]+", message.partition("unrecognized arguments:")[2]):
            close = nearest(option, options, n=2)
            if close:
                message += f"\n  fix:      for {option}, did you mean {' or '.join(close)}?"
        self.exit(2, f"{self.format_usage_line()}{self.prog}: {message}\n")


@contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Show the library's log on stderr while a command runs."""
    logger = logging.getLogger("mxnetseg")
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Formatter(logging.Formatter):
    """Print information as it is, and all other records after the name of their level: ``warning: ...``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with control characters escaped."""
        text = printable(super().format(record))
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"
