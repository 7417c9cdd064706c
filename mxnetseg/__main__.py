"""``python -m mxnetseg`` runs the console command ``mxnetseg``."""
import sys

from .tools.main import main

sys.exit(main())
