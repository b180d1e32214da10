import pytest

from service import errors
from service.errors import InferenceError, OverloadedError, ServiceError
from service.link.failures import pack, unpack
from service.link.messages import Failed

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]


@pytest.mark.parametrize("kind", KINDS)
def test_unpack_of_pack_is_the_same_error(kind: type[ServiceError]) -> None:
    error = unpack(pack(kind("what went wrong")))

    assert type(error) is kind
    assert str(error) == "what went wrong"


def test_unpack_overload_keeps_when_to_come_back() -> None:
    error = unpack(pack(OverloadedError("full", 7.5)))

    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == 7.5


def test_pack_unexpected_error_does_not_show_its_text() -> None:
    failed = pack(KeyError("a secret"))

    assert isinstance(unpack(failed), InferenceError)
    assert "secret" not in failed.text


def test_unpack_unknown_name_is_an_inference_error() -> None:
    assert type(unpack(Failed("NoSuchError", "text"))) is InferenceError
