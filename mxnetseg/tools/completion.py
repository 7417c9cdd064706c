"""``mxnetseg completion``: print a script that completes commands and options in a shell."""
from __future__ import annotations

import argparse
from importlib import import_module

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="bash: `source <(mxnetseg completion bash)` in "
                        "~/.bashrc; zsh: write it to a file _mxnetseg in a folder of $fpath")


def run(args: argparse.Namespace) -> int:
    """Print the script; return 0."""
    print(script(args.shell))
    return 0


def script(shell: str) -> str:
    """Return the script for a shell.

    Args:
        shell: one of :data:`SHELLS`.

    Raises:
        EnvironmentProblem: shtab is not installed.
    """
    from .._compat import import_optional
    from .main import COMMANDS

    shtab = import_optional("shtab", "completion", fix="pip install 'mxnetseg[completion]'")

    whole = argparse.ArgumentParser(prog="mxnetseg")
    commands = whole.add_subparsers()
    for name, (module, summary) in COMMANDS.items():
        parser = commands.add_parser(name, help=summary)
        import_module(module).add_arguments(parser)
        for action in parser._actions:
            # of other arguments, files are completed: a metavar that names a path says so
            if not action.choices and any(word in str(action.metavar or action.dest).upper()
                                          for word in ("FILE", "PATH", "DIR", "ROOT", "FOLDER", "CHECKPOINT", "IMAGE")):
                action.complete = shtab.DIR if "DIR" in str(action.metavar) else shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(whole, shell=shell)
