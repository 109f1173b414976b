"""`python -m federation.cli`: fedctl, where no script is installed."""

import sys

from federation.cli import main

sys.exit(main())
