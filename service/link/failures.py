"""Errors on their way between processes."""

from service import errors
from service.errors import InferenceError, OverloadedError, ServiceError
from service.link.messages import Failed

_BY_NAME = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ServiceError)
}


def pack(error: BaseException) -> Failed:
    """An error as a message; what is not one of `service.errors` becomes an `InferenceError` without its text."""
    if not isinstance(error, ServiceError):
        return Failed(InferenceError.__name__, "the engine failed unexpectedly")
    retry_after_s = error.retry_after_s if isinstance(error, OverloadedError) else None
    return Failed(type(error).__name__, str(error), retry_after_s)


def unpack(failed: Failed) -> ServiceError:
    """The error a message stands for."""
    kind = _BY_NAME.get(failed.error, InferenceError)
    if issubclass(kind, OverloadedError) and failed.retry_after_s is not None:
        return kind(failed.text, failed.retry_after_s)
    return kind(failed.text)
