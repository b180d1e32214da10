"""What this service is called, and which version of it runs."""

from importlib.metadata import PackageNotFoundError, version

SERVICE_NAME = "dynamic-vit-service"


def service_version() -> str:
    """The installed version of this service; a source tree that was never installed has none."""
    try:
        return version(SERVICE_NAME)
    except PackageNotFoundError:
        return "unknown"
