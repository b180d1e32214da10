"""What measuring rests on: processes, processor time, pictures, medians and percentiles."""

import subprocess
import sys
from io import BytesIO

import pytest
from PIL import Image

from service.capacity.child import ServerFailedError, served
from service.capacity.overhead import measure_overhead
from service.capacity.processor_time import cpu_s, family
from service.capacity.sample_images import SIZES_PX, sample_jpegs
from service.capacity.spread import Spread
from service.settings import Settings


def test_served_process_that_ends_at_once_is_told_with_its_log():
    with (
        pytest.raises(ServerFailedError, match=r"exit code 3.*such a pity"),
        served(("-c", "import sys; print('such a pity'); sys.exit(3)")),
    ):
        pytest.fail("it never was ready")


def test_served_process_that_ends_badly_is_an_error():
    program = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
HTTPServer(("127.0.0.1", int(os.environ["DVT_HTTP_PORT"])), Handler).serve_forever()
"""
    with pytest.raises(ServerFailedError, match="code 7"), served(("-c", program)) as child:
        assert child.host == "127.0.0.1"


def test_measure_overhead_counts_both_processes_of_a_real_service(model):
    overhead = measure_overhead(Settings(model=str(model)), "small", seconds=0.2)

    assert overhead.front_end_ms > 0
    assert overhead.engine_ms > 0


def test_family_and_cpu_s_are_of_a_process_and_what_it_started():
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(sum(range(10**6))); input()'])"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        members = family(process.pid)
        used = cpu_s(members)

    assert process.pid in members
    assert len(members) == 2
    assert used > 0


@pytest.mark.parametrize(("size", "least", "most"), [("small", 1_500, 5_000), ("large", 25_000, 150_000)])
def test_sample_jpegs_are_different_images_as_heavy_as_photographs(size, least, most):
    jpegs = sample_jpegs(size, 3)

    assert len(set(jpegs)) == 3
    assert jpegs == sample_jpegs(size, 3)
    for jpeg in jpegs:
        assert least < len(jpeg) < most
        with Image.open(BytesIO(jpeg)) as image:
            assert (image.format, image.size) == ("JPEG", SIZES_PX[size])


def test_spread_keeps_the_median_and_the_extremes():
    assert Spread.of([3.0, 1.0, 9.0]) == Spread(3.0, 1.0, 9.0)
    assert f"{Spread.of([3.0, 1.0, 9.0]):.1f}" == "3.0 (1.0-9.0)"
