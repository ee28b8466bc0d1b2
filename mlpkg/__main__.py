"""`python -m mlpkg`."""

import sys

from mlpkg.cli import main

sys.exit(main())
