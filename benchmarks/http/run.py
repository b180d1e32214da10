"""Starts and stops the processes of a measurement over HTTP."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.http.measure import Measured, MeasurementPlan, Referred, ServerUnderTest, client, measure, meet
from benchmarks.http.reference_process import reference_process
from service.capacity.child import served
from service.errors import InvalidParameterError

_INSTANT = ("-m", "service.capacity.instant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Which servers to measure: a running one, or some to start.

    Attributes:
        url: of a running server; None starts `variants`.
        variants: environment on top of this process's own, by the server's name.
        references: whether to measure the same work without HTTP, with the first variant's settings.
    """

    url: str | None
    variants: Mapping[str, Mapping[str, str]]
    references: bool


def run(
    servers: Servers,
    plan: MeasurementPlan,
    jpegs: Sequence[bytes],
    *,
    client_processes: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, ServerUnderTest], dict[str, Measured], Referred]:
    """Start the servers, measure, and stop them; all stay up, so that rounds can alternate between them.

    Raises:
        AnswerError: a server cannot be measured.
        InvalidParameterError: the URL is not one.
        ServerFailedError: a server did not start or did not end as it should.
    """
    with ExitStack() as stack:
        reference = instant = None
        if servers.url is not None:
            targets = {servers.url: meet(*_address(servers.url), jpegs)}
        else:
            children = {
                name: stack.enter_context(served(environment=added)) for name, added in servers.variants.items()
            }
            targets = {name: meet(child.host, child.port, jpegs, child.pid) for name, child in children.items()}
            if servers.references:
                settings = next(iter(servers.variants.values()))
                reference = stack.enter_context(reference_process(jpegs, settings))
                child = stack.enter_context(served(_INSTANT, settings))
                instant = meet(child.host, child.port, jpegs)
        sender = stack.enter_context(client(client_processes, jpegs))
        measured, referred = measure(sender, targets, plan, reference=reference, instant=instant, on_step=on_step)
        return targets, measured, referred


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme != "http" or parts.hostname is None:
        raise InvalidParameterError(f"{url!r} is not the http URL of a server")
    return parts.hostname, parts.port or 80
