import signal

import pytest

from weights.training.interruption import Interrupted, interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruptible_first_signal_is_noted_and_stops_at_the_next_check(number: signal.Signals) -> None:
    with interruptible() as interruption:
        interruption.check()
        signal.raise_signal(number)
        assert interruption.requested
        with pytest.raises(Interrupted):
            interruption.check()


def test_interruptible_second_signal_acts_as_usual() -> None:
    # What Python does by default; whatever runs the tests may have changed it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_interruptible_afterwards_the_handlers_are_those_of_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruptible():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
