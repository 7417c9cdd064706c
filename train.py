"""Train a network: python train.py --model fcn. Same as `mxnetseg train`."""
import sys

from mxnetseg.tools.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:], prog="train.py"))
