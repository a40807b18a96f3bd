"""`python -m triptych_research`: the command line, where the package is not installed."""

import sys

from triptych_research.cli import main

sys.exit(main())
