"""Processor time of a real service: it is measured, and it is a plausible one."""

from service.capacity.overhead import measure_overhead
from service.settings import Settings


def test_measure_overhead_counts_both_processes_of_a_real_service(model):
    overhead = measure_overhead(Settings(model=str(model)), "small", seconds=0.2)

    assert overhead.front_end_ms > 0
    assert overhead.engine_ms > 0
