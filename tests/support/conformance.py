"""Does a running server do what its own description says? Thousands of requests made from it, seeded.

    python tests/support/conformance.py [--max-examples 100] [--seed 1]

Starts `dvt serve` with the shipped model in a process of its own, and lets schemathesis make requests of its OpenAPI
document, valid ones and invalid ones, with all its checks. Fails when a check does, or when there were too few.

Three checks are told something. 504 is no failure of the server here, but the documented answer to a deadline nobody
could keep; of the deadlines it makes up, most are. 412 is what an `If-Match` asks for that does not match. And more
images than allowed are refused with 413, which is not among the refusals the tool knows.
What a description has no words for, `api_images` puts right: that `min_stage` is at most `max_stage`, that a tensor's
shape is that of its data, what a binary tensor looks like, and which targets the calibration table can meet.
"""

import os
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from service.capacity.child import Child, served

SETTINGS = {"DVT_DTYPE": "float32", "OMP_NUM_THREADS": "1"}

_SUPPORT = Path(__file__).parent
_CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "412", "429", "5xx"]
"""


@dataclass(frozen=True)
class ConformanceRun:
    """What came of a run: `report` is the tool's own."""

    passed: bool
    cases: int
    report: str


def check(
    server: Child, *, max_examples: int, seed: int = 1, phases: str = "examples,coverage,fuzzing"
) -> ConformanceRun:
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
                *("--phases", phases, "--checks", "all", "--continue-on-failure"),
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
    return ConformanceRun(ended.returncode == 0, cases, ended.stdout + ended.stderr)


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
