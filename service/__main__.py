"""`python -m service` is `dvt`."""

import os
import sys

# `-m` lets the working directory come first, where a `models` or a `json` may be. Only a source tree that was never
# installed needs it: there it is the folder of this package.
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from service.cli import app

app()
