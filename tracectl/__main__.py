"""``python -m tracectl``: the command line without an installed script."""

import sys

from tracectl.cli import main

sys.exit(main())
