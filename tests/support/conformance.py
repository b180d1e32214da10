"""Does a running server do what its own description says? Thousands of requests made from it, seeded.

    python tests/support/conformance.py [--max-examples 100] [--seed 1]

Starts `dvt serve` with the shipped model in a process of its own, and lets schemathesis make requests of its OpenAPI
document, valid ones and invalid ones, with all its checks. Fails when a check does, or when there were too few requests.

One check is told something: 504 is no failure of the server here, but the documented answer to a deadline that nobody
could keep, and of the deadlines it makes up, most are.
"""

import os
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from service.bench.child import Child, served

SETTINGS = {"DVT_DTYPE": "float32", "OMP_NUM_THREADS": "1"}

_SUPPORT = Path(__file__).parent
_CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a run: `report` is the tool's own."""

    passed: bool
    cases: int
    report: str


def check(server: Child, *, max_examples: int, seed: int) -> Outcome:
    """Make requests of a server's description, and check the answers.

    Args:
        max_examples: the most requests made up for one operation in each way of making them up.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "schemathesis.toml").write_text(_CONFIGURATION)
        ended = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "run"),
                f"http://{server.host}:{server.port}/openapi.json",
                *("--phases", "examples,coverage,fuzzing", "--checks", "all", "--continue-on-failure"),
                *("--max-examples", str(max_examples), "--seed", str(seed)),
            ],
            cwd=folder,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "api_images",
                "PYTHONPATH": os.pathsep.join((str(_SUPPORT), str(_SUPPORT.parents[1]))),
                "NO_COLOR": "1",
                "COLUMNS": "120",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    generated = re.search(r"(\d[\d,]*) generated", ended.stdout)
    cases = int(generated[1].replace(",", "")) if generated else 0
    return Outcome(ended.returncode == 0, cases, ended.stdout + ended.stderr)


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--max-examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--min-cases", type=int, default=2000)
    asked = parser.parse_args()
    with served(environment=SETTINGS) as server:
        outcome = check(server, max_examples=asked.max_examples, seed=asked.seed)
    print(outcome.report)
    return 0 if outcome.passed and outcome.cases >= asked.min_cases else 1


if __name__ == "__main__":
    sys.exit(main())
