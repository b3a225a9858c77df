"""`python -m sightline` is `sightline`."""

import sys

from .cli import main

sys.exit(main())
