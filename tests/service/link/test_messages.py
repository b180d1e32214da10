import pytest

from service import errors
from service.errors import InferenceError, OverloadedError, ServiceError
from service.link.messages import Failed

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]


def test_failed_of_each_error_becomes_the_same_error() -> None:
    for kind in KINDS:
        error = Failed.of(kind("what went wrong")).error()
        assert (type(error), str(error)) == (kind, "what went wrong")


def test_failed_of_an_overload_keeps_when_to_come_back() -> None:
    error = Failed.of(OverloadedError("full", 7.5)).error()

    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == 7.5


@pytest.mark.parametrize("failed", [Failed.of(KeyError("a secret")), Failed("NoSuchError", "text")])
def test_failed_of_something_unknown_is_an_inference_error_without_its_text(failed: Failed) -> None:
    assert type(failed.error()) is InferenceError
    assert "secret" not in failed.text
