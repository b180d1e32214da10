import signal

import pytest

from weights.training.interruption import Interrupted, interruptible


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_interruptible_first_signal_stops_at_the_next_check_and_the_second_acts_as_usual(first: signal.Signals) -> None:
    # What Python does by default; whatever runs the tests may have changed it.
    before, terminates = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)
    try:
        with interruptible() as interruption:
            interruption.check()
            signal.raise_signal(first)
            with pytest.raises(Interrupted):
                interruption.check()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == terminates
    finally:
        signal.signal(signal.SIGINT, before)
