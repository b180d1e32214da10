"""Where a setting comes from, what is refused, and what is never shown."""

import pytest

from service.settings import (
    CONFIG_FILE_VARIABLE,
    PREFIX,
    SECRETS,
    Settings,
    SettingsError,
    kubernetes_variables,
    load_settings,
    unknown_variables,
)

KEY = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    monkeypatch.delenv(CONFIG_FILE_VARIABLE, raising=False)


@pytest.fixture
def config_file(monkeypatch, tmp_path):
    """Write a configuration file that the settings then find."""

    def write(text):
        path = tmp_path / "dvt.toml"
        path.write_text(text)
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(path))

    return write


@pytest.fixture
def secret_file(monkeypatch, tmp_path):
    """Write a file with a secret that the settings then find."""

    def write(content, name="admin_key"):
        path = tmp_path / "secret"
        path.write_bytes(content)
        monkeypatch.setenv(f"DVT_{name.upper()}_FILE", str(path))

    return write


def test_load_settings_command_line_beats_environment_beats_file_beats_default(monkeypatch, config_file):
    config_file(f"http_port = 1\nmodel = 'from-file'\ndtype = 'bfloat16'\nadmin_key = '{KEY}'\n")
    monkeypatch.setenv("DVT_HTTP_PORT", "2")
    monkeypatch.setenv("DVT_MODEL", "from-environment")
    monkeypatch.setenv("DVT_MAX_INFLIGHT", "")
    settings = load_settings(http_port=3, model=None)

    assert settings.http_port == 3
    assert settings.model == "from-environment"
    assert settings.dtype == "bfloat16"
    assert settings.admin_key.get_secret_value() == KEY
    assert (settings.device, settings.max_inflight) == ("auto", 512)


@pytest.mark.parametrize("name", ["DVT", "DVT_HTTP", "DVT_MODEL"])
def test_load_settings_what_kubernetes_sets_for_a_service_is_ignored(monkeypatch, config_file, name):
    variables = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "80",
        f"{name}_SERVICE_PORT_WEB": "80",
        f"{name}_PORT": "tcp://10.0.0.1:80",
        f"{name}_PORT_80_TCP": "tcp://10.0.0.1:80",
        f"{name}_PORT_80_TCP_PROTO": "tcp",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    config_file("http_port = 81")

    assert load_settings().http_port == 81
    assert kubernetes_variables({**variables, "PORT": "tcp://10.0.0.1:80"}) == sorted(variables)
    assert kubernetes_variables({"DVT_HTTP_PORT": "80", "DVT_PORT": "80"}) == []
    assert unknown_variables(variables) == []


def test_unknown_variables_are_those_nobody_reads():
    known = {"DVT_MODEL": "m", "DVT_ADMIN_KEY_FILE": "f", "DVT_CONFIG_FILE": "c", "dvt_log_level": "info", "HOME": "/"}
    misspelt = {"DVT_ADMINKEY": "x", "DVT_MAX_INFLIHGT": "5", "DVT_PORT": "80"}

    assert unknown_variables({**known, **misspelt}) == sorted(misspelt)


OUT_OF_RANGE = """
http_port=65536 http_port=http http_workers=65 dtype=float16 max_inflight=0 max_batch_size=0 max_body_bytes=0
max_image_pixels=89478486 max_images_per_request=0 max_connections=0 client_timeout_s=0 decode_threads=0 torch_threads=0
shed_accuracy_drop=0 shed_accuracy_drop=1.5 max_step_s=0 drain_delay_s=-1 drain_timeout_s=inf log_level=loud
"""


@pytest.mark.parametrize("assignment", OUT_OF_RANGE.split())
def test_load_settings_value_out_of_range_is_refused_naming_variable_and_value(monkeypatch, assignment):
    name, value = assignment.split("=")
    monkeypatch.setenv(f"DVT_{name.upper()}", value)

    with pytest.raises(SettingsError, match=rf"^DVT_{name.upper()}: .*got '{value}'$"):
        load_settings()


def test_load_settings_every_error_is_named_at_once(monkeypatch):
    monkeypatch.setenv("DVT_HTTP_PORT", "x")

    with pytest.raises(SettingsError, match=r"DVT_HTTP_PORT.*DVT_MAX_INFLIHGT"):
        load_settings(max_inflihgt=5)


@pytest.mark.parametrize(
    ("text", "word"), [("max_inflihgt = 5\n", "MAX_INFLIHGT"), ("http_port = ", "DVT_CONFIG_FILE")]
)
def test_load_settings_file_with_an_unknown_name_or_no_toml_is_refused(config_file, text, word):
    config_file(text)

    with pytest.raises(SettingsError, match=word):
        load_settings()


@pytest.mark.parametrize("variable", ["DVT_CONFIG_FILE", "DVT_ADMIN_KEY_FILE"])
def test_load_settings_file_that_does_not_exist_is_refused(monkeypatch, tmp_path, variable):
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))

    with pytest.raises(SettingsError, match="nowhere"):
        load_settings()


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_load_settings_secret_file_is_read_without_its_line_end_and_byte_order_mark(secret_file, name, mark):
    secret_file(f"{mark}{KEY}\r\n".encode(), name)

    assert getattr(load_settings(), name).get_secret_value() == KEY


def test_load_settings_keys_belong_to_their_holders_one_a_line_in_a_file(monkeypatch, secret_file):
    secret_file(b"alice:hush\nbob:shush\n")
    monkeypatch.setenv("DVT_API_KEY", "one")

    settings = load_settings()
    assert [settings.admin_keys.holder(key) for key in (b"hush", b"shush", b"one")] == ["alice", "bob", None]
    assert settings.api_keys.holder(b"one") == "api"


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [("log_level", "Info", "info"), ("http_host", "[::1]", "::1"), ("http_host", "::1", "::1")],
)
def test_load_settings_log_level_in_any_case_and_address_in_brackets(monkeypatch, name, value, meant):
    monkeypatch.setenv(f"DVT_{name.upper()}", value)

    assert getattr(load_settings(), name) == meant


@pytest.mark.parametrize("name", ["admin_key", "api_key"])
@pytest.mark.parametrize("value", [f"alice:{KEY},alice:b", ","])
def test_load_settings_keys_that_are_none_are_refused_without_showing_them(monkeypatch, name, value):
    monkeypatch.setenv(f"DVT_{name.upper()}", value)

    with pytest.raises(SettingsError, match=f"DVT_{name.upper()}") as error:
        load_settings()
    assert KEY not in str(error.value)


@pytest.mark.parametrize("content", [b"\n", b"\xff\xfe" + KEY.encode(), KEY.encode("utf-16")])
def test_load_settings_key_file_that_holds_none_or_no_text_is_refused_without_showing_it(secret_file, content):
    secret_file(content)

    with pytest.raises(SettingsError, match=r"(?i)admin_key") as error:
        load_settings()
    assert "0x" not in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        f"admin_key = ['{KEY}']",
        f"admin_key = {{value = '{KEY}'}}",
        f"admin_kye = '{KEY}'",
        f"[admin]\nkey = '{KEY}'",
        f"admin_key = '{KEY}",
        f"admin_key = '{KEY}'\nhttp_port = 'x'",
    ],
)
def test_load_settings_file_with_a_mistake_around_the_key_is_refused_without_showing_it(config_file, text):
    config_file(text)

    with pytest.raises(SettingsError) as error:
        load_settings()
    assert KEY not in str(error.value)


def test_load_settings_key_and_its_file_exclude_each_other(monkeypatch, secret_file):
    secret_file(b"other")
    monkeypatch.setenv("DVT_ADMIN_KEY", KEY)

    with pytest.raises(SettingsError, match="exclude each other") as error:
        load_settings()
    assert KEY not in str(error.value)


def test_settings_shown_in_a_log_hide_the_admin_key():
    settings = load_settings(admin_key=KEY)

    assert KEY not in f"{settings!r} {settings} {settings.model_dump_json()}"
