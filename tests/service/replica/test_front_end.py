"""What a front end is made of."""

import subprocess
import sys

from service.replica.children import child_environment


def test_front_end_needs_no_torch():
    code = "import sys, service.replica.front_end; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], env=child_environment()).returncode == 0
