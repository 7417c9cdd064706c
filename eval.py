"""Evaluate a checkpoint, or write its predictions: python eval.py --ms. Same as `mxnetseg eval`."""
import sys

from mxnetseg.tools.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("eval", sys.argv[1:], prog="eval.py"))
