"""Every error a request can meet; `service.http.problems` maps each to one HTTP status.

ServiceError
├── UndecodableImageError    the bytes are not a complete image
├── MalformedRequestError    the body cannot be taken apart
├── TooLargeError            too many bytes or pixels
├── UnsupportedMediaError    a content type that is not accepted
├── InvalidParameterError    a parameter out of its range or unknown
├── UnauthorizedError        a write without credentials
├── ForbiddenError           a write with the wrong ones, or from the wrong place
├── NotFoundError            no model of that name
├── VersionConflictError     a conditional write to a configuration that has moved on
├── StoreUnavailableError    the configuration's store cannot be read or written
├── OverloadedError          no permit left
├── NotReadyError            starting, draining or dead
├── DeadlineExceededError    no stage can finish before the deadline
├── ClientLeftError           the client left
└── InferenceError           a stage failed for this image
    └── DeviceLostError      the device is gone; nothing can be computed any more
"""


class ServiceError(Exception):
    """Base of all errors the service raises on purpose; its text is safe to show to a client."""


class UndecodableImageError(ServiceError):
    """The bytes are not a complete image in a supported format."""


class MalformedRequestError(ServiceError):
    """The body does not have the form its content type announces."""


class TooLargeError(ServiceError):
    """More bytes or pixels than the configured limit."""


class UnsupportedMediaError(ServiceError):
    """The request's content type is not one the route reads."""


class InvalidParameterError(ServiceError):
    """A parameter is unknown or outside its range; the text names the value and the limit."""


class UnauthorizedError(ServiceError):
    """The caller must say who it is before it may do this."""


class ForbiddenError(ServiceError):
    """The caller may not do this."""


class NotFoundError(ServiceError):
    """There is no model of that name, or no such version of it."""


class VersionConflictError(ServiceError):
    """The configuration is no longer at the version the caller expects."""


class StoreUnavailableError(ServiceError):
    """The configuration's store cannot be read or written, so that nothing can be changed now."""


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
    """The device failed for good; the process should be replaced."""
