"""No key is ever written down, wherever it is sent and whatever is logged."""

from base64 import b64encode

from tiny_model import png
from wire import Wire, get, request

from service.capacity.child import served

API, ADMIN, WRONG, STORE = "apikey7341", "adminkey9127", "wrongkey5568", "storekey2084"
IMAGE = "Content-Type: image/png"


def requests_with(key):
    basic = b64encode(f"user:{key}".encode()).decode()
    yield request(png(), IMAGE, f"Authorization: Bearer {key}")
    yield request(png(), IMAGE, f"Authorization: Bearer {key}, Bearer {key}")
    yield request(png(), IMAGE, f"Authorization: Basic {basic}")
    yield request(png(), IMAGE, f"X-API-Key: {key}", f"Cookie: key={key}", f"X-Request-ID: {key}")
    yield request(png(), IMAGE, target=f"/classify?api_key={key}")
    yield request(png(), IMAGE, target=f"/classify?{key}&top_k={key}")
    yield get(f"/{key}")
    yield get(f"http://user:{key}@elsewhere.example/livez")
    yield get(f"/livez#{key}")
    yield request(b"x", f"Content-Type: {key}")
    yield request(b"x", f"Content-Encoding: {key}")
    yield request(
        f'{{"thresholds": "{key}", "{key}": 1}}'.encode(), "Content-Type: application/json", target="/config/simulate"
    )
    for thresholds in (b'{"thresholds": 0.5}', f'{{"thresholds": "{key}"}}'.encode()):
        yield request(
            thresholds,
            "Content-Type: application/json",
            f"Authorization: Bearer {key}",
            f"If-Match: {key}",
            method="PATCH",
            target="/config",
        )
    yield request(b"", "Content-Length: 5", f"Authorization: Bearer {key}", "Content-Length: 6")
    yield request(b"", f"Authorization : Bearer {key}", f"Content-Length: {key}")
    yield f"{key} / HTTP/1.1\r\nHost: {key}\r\n\r\n".encode()


def test_log_at_debug_holds_no_key(model, tmp_path):
    log = tmp_path / "log"
    settings = {
        "DVT_MODEL": model,
        "DVT_HTTP_WORKERS": "1",
        "DVT_LOG_LEVEL": "debug",
        "DVT_DTYPE": "float32",
        "DVT_API_KEY": f"shop:{API}",
        "DVT_ADMIN_KEY": f"alice:{ADMIN}",
        "DVT_CONFIG_STORE": f"redis://:{STORE}@127.0.0.1:1/0",
    }
    with served(environment=settings, log_path=log) as server:
        for key in (API, ADMIN, WRONG):
            for data in requests_with(key):
                with Wire(server) as wire:
                    assert wire.ask(data).status < 504
        with Wire(server) as wire:
            metrics = wire.ask(get("/metrics")).body.decode()

    written = log.read_text() + metrics
    assert "DEBUG" in written
    assert "127.0.0.1:1" in written
    for key in (API, ADMIN, WRONG, STORE):
        assert key not in written
