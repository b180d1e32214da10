"""The errors of the service; `service.http.problems` maps each of them to one HTTP status."""


class ServiceError(Exception):
    """Base of all errors that the service raises on purpose; clients may see the text."""


class UndecodableImageError(ServiceError):
    """The bytes are not a complete image in a supported format."""


class MalformedRequestError(ServiceError):
    """The body does not match its content type."""


class TooLargeError(ServiceError):
    """More bytes or pixels than the configured limit."""


class UnsupportedMediaError(ServiceError):
    """The request's content type is not one the route reads."""


class InvalidParameterError(ServiceError):
    """A parameter is unknown or outside its range; the text names the value and the limit."""


class UnauthorizedError(ServiceError):
    """The request needs credentials and has none."""


class ForbiddenError(ServiceError):
    """The credentials or the origin of the request do not permit it."""


class NotFoundError(ServiceError):
    """There is no model of this name and version."""


class VersionConflictError(ServiceError):
    """The configuration is no longer at the version the caller expects."""


class StoreUnavailableError(ServiceError):
    """The configuration's store cannot be read or written."""


class OverloadedError(ServiceError):
    """All permits are taken.

    Attributes:
        retry_after_s: seconds after which a retry is sensible.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReadyError(ServiceError):
    """The engine is starting, draining or dead."""


class DeadlineExceededError(ServiceError):
    """No stage could finish before the deadline."""


class ClientLeftError(ServiceError):
    """The client left before the answer was ready."""


class InferenceError(ServiceError):
    """A stage could not be computed for this image."""


class DeviceLostError(InferenceError):
    """The device failed permanently; the process must be replaced."""
