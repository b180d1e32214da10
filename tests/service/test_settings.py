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
        return path

    return write


def test_load_settings_without_any_source_gives_the_defaults():
    settings = load_settings()

    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8000)
    assert (settings.model, settings.device, settings.dtype) == ("dvt-photos", "auto", "auto")
    assert (settings.max_inflight, settings.max_batch_size, settings.max_images_per_request) == (512, 64, 64)
    assert (settings.max_body_bytes, settings.max_image_pixels) == (32 * 2**20, 50_000_000)
    assert settings.admin_key is None


def test_load_settings_command_line_beats_environment_beats_file_beats_default(monkeypatch, config_file):
    config_file("http_port = 1\nmodel = 'from-file'\ndtype = 'bfloat16'\n")
    monkeypatch.setenv("DVT_HTTP_PORT", "2")
    monkeypatch.setenv("DVT_MODEL", "from-environment")
    settings = load_settings(http_port=3)

    assert settings.http_port == 3
    assert settings.model == "from-environment"
    assert settings.dtype == "bfloat16"
    assert settings.device == "auto"


def test_load_settings_none_on_the_command_line_is_not_given(monkeypatch):
    monkeypatch.setenv("DVT_HTTP_PORT", "2")

    assert load_settings(http_port=None).http_port == 2


def test_load_settings_empty_variable_is_not_given(monkeypatch):
    monkeypatch.setenv("DVT_ADMIN_KEY", "")
    monkeypatch.setenv("DVT_MAX_INFLIGHT", "")

    assert load_settings().admin_key is None
    assert load_settings().max_inflight == 512


def of_kubernetes(service):
    """What Kubernetes sets for a service with a port named `web`."""
    name = f"{service.upper().replace('-', '_')}"
    return {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "80",
        f"{name}_SERVICE_PORT_WEB": "80",
        f"{name}_PORT": "tcp://10.0.0.1:80",
        f"{name}_PORT_80_TCP": "tcp://10.0.0.1:80",
        f"{name}_PORT_80_TCP_PROTO": "tcp",
        f"{name}_PORT_80_TCP_PORT": "80",
        f"{name}_PORT_80_TCP_ADDR": "10.0.0.1",
    }


@pytest.mark.parametrize("service", ["dvt", "dvt-http", "dvt-model"])
def test_load_settings_what_kubernetes_sets_for_a_service_is_ignored(monkeypatch, config_file, service):
    config_file("http_port = 81")
    for name, value in of_kubernetes(service).items():
        monkeypatch.setenv(name, value)

    assert load_settings().http_port == 81
    assert load_settings(http_port=82).http_port == 82


@pytest.mark.parametrize("service", ["dvt", "dvt-http", "dvt-model"])
def test_kubernetes_variables_are_known_by_their_shape(service):
    assert kubernetes_variables({**of_kubernetes(service), "DVT_HTTP_WORKERS": "2"}) == sorted(of_kubernetes(service))
    assert unknown_variables(of_kubernetes(service)) == []
    assert kubernetes_variables({"DVT_HTTP_PORT": "80", "DVT_PORT": "80", "PORT": "tcp://10.0.0.1:80"}) == []
    assert unknown_variables({"DVT_PORT": "80"}) == ["DVT_PORT"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", "65536"),
        ("http_port", "-1"),
        ("http_port", "http"),
        ("dtype", "float16"),
        ("cuda_graphs", "perhaps"),
        ("max_inflight", "0"),
        ("max_batch_size", "0"),
        ("max_body_bytes", "0"),
        ("max_image_pixels", "89478486"),
        ("max_images_per_request", "0"),
        ("decode_threads", "0"),
        ("torch_threads", "0"),
        ("shed_accuracy_drop", "0"),
        ("shed_accuracy_drop", "1.5"),
        ("max_step_s", "0"),
        ("drain_delay_s", "-1"),
        ("drain_timeout_s", "inf"),
        ("log_level", "loud"),
    ],
)
def test_load_settings_value_out_of_range_is_refused_naming_variable_and_value(monkeypatch, name, value):
    monkeypatch.setenv(f"DVT_{name.upper()}", value)

    with pytest.raises(SettingsError, match=rf"^DVT_{name.upper()}: .*got '{value}'$"):
        load_settings()


def test_load_settings_every_error_is_named_at_once(monkeypatch):
    monkeypatch.setenv("DVT_HTTP_PORT", "x")
    monkeypatch.setenv("DVT_MAX_INFLIGHT", "0")

    with pytest.raises(SettingsError, match=r"DVT_HTTP_PORT.*DVT_MAX_INFLIGHT"):
        load_settings()


def test_load_settings_unknown_name_in_the_file_is_refused(config_file):
    config_file("max_inflihgt = 5\n")

    with pytest.raises(SettingsError, match="MAX_INFLIHGT"):
        load_settings()


@pytest.mark.parametrize("text", ["http_port = ", "\x00"])
def test_load_settings_file_that_is_not_toml_is_refused(config_file, text):
    config_file(text)

    with pytest.raises(SettingsError, match="DVT_CONFIG_FILE"):
        load_settings()


def test_load_settings_file_that_does_not_exist_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(tmp_path / "nowhere.toml"))

    with pytest.raises(SettingsError, match=r"DVT_CONFIG_FILE: .*nowhere\.toml"):
        load_settings()


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_load_settings_secret_file_is_read_without_its_line_end_and_byte_order_mark(monkeypatch, tmp_path, name, mark):
    path = tmp_path / "key"
    path.write_text(f"{mark}{KEY}\r\n", encoding="utf-8")
    monkeypatch.setenv(f"DVT_{name.upper()}_FILE", str(path))

    secret = getattr(load_settings(), name)
    assert secret is not None
    assert secret.get_secret_value() == KEY


def test_load_settings_key_file_may_hold_several_keys_one_a_line(monkeypatch, tmp_path):
    path = tmp_path / "keys"
    path.write_text("alice:hush\nbob:shush\n")
    monkeypatch.setenv("DVT_ADMIN_KEY_FILE", str(path))
    monkeypatch.setenv("DVT_API_KEY", "one")

    settings = load_settings()
    assert settings.admin_keys is not None
    assert settings.api_keys is not None
    assert [settings.admin_keys.holder(key) for key in (b"hush", b"shush", b"one")] == ["alice", "bob", None]
    assert settings.api_keys.holder(b"one") == "api"


@pytest.mark.parametrize("value", ["INFO", "info", "Info"])
def test_load_settings_log_level_may_be_in_any_case(monkeypatch, value):
    monkeypatch.setenv("DVT_LOG_LEVEL", value)

    assert load_settings().log_level == "info"


@pytest.mark.parametrize("value", ["::1", "[::1]"])
def test_load_settings_ipv6_address_may_be_in_brackets(monkeypatch, value):
    monkeypatch.setenv("DVT_HTTP_HOST", value)

    assert load_settings().http_host == "::1"


@pytest.mark.parametrize("name", ["admin_key", "api_key"])
@pytest.mark.parametrize("value", [f"alice:{KEY},alice:b", f"a:b:{KEY}", ","])
def test_load_settings_keys_that_are_none_are_refused_without_showing_them(monkeypatch, name, value):
    monkeypatch.setenv(f"DVT_{name.upper()}", value)

    with pytest.raises(SettingsError, match=f"DVT_{name.upper()}") as error:
        load_settings()
    assert KEY not in str(error.value)


def test_unknown_variables_are_those_nobody_reads():
    known = {"DVT_MODEL": "m", "DVT_ADMIN_KEY_FILE": "f", "DVT_CONFIG_FILE": "c", "dvt_log_level": "info"}

    assert unknown_variables({**known, "HOME": "/"}) == []
    assert unknown_variables({**known, "DVT_MAX_INFLIHGT": "5", "DVT_ADMINKEY": "x"}) == [
        "DVT_ADMINKEY",
        "DVT_MAX_INFLIHGT",
    ]


def test_load_settings_empty_admin_key_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "key"
    path.write_text("\n")
    monkeypatch.setenv("DVT_ADMIN_KEY_FILE", str(path))

    with pytest.raises(SettingsError, match="DVT_ADMIN_KEY"):
        load_settings()


def test_load_settings_admin_key_file_that_cannot_be_read_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("DVT_ADMIN_KEY_FILE", str(tmp_path / "nowhere"))

    with pytest.raises(SettingsError, match="nowhere"):
        load_settings()


@pytest.mark.parametrize("content", [b"\xff\xfe" + KEY.encode(), KEY.encode("utf-16"), b"\x80"])
def test_load_settings_admin_key_file_that_is_not_text_is_refused_naming_it_alone(monkeypatch, tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    monkeypatch.setenv("DVT_ADMIN_KEY_FILE", str(path))

    with pytest.raises(SettingsError, match="admin_key_file") as error:
        load_settings()
    assert "0x" not in str(error.value)


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


def test_load_settings_admin_key_may_come_from_the_file(config_file):
    config_file(f"admin_key = '{KEY}'")

    admin_key = load_settings().admin_key
    assert admin_key is not None
    assert admin_key.get_secret_value() == KEY


def test_load_settings_unknown_name_on_the_command_line_is_refused():
    with pytest.raises(SettingsError, match="DVT_MAX_INFLIHGT"):
        load_settings(max_inflihgt=5)


def test_load_settings_errors_never_show_the_admin_key(monkeypatch, tmp_path):
    monkeypatch.setenv("DVT_ADMIN_KEY", KEY)
    monkeypatch.setenv("DVT_HTTP_PORT", "x")
    with pytest.raises(SettingsError) as port_error:
        load_settings()
    monkeypatch.setenv("DVT_ADMIN_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="exclude each other") as both_error:
        load_settings()

    assert KEY not in str(port_error.value) + str(both_error.value)


def test_settings_shown_in_a_log_hide_the_admin_key(monkeypatch):
    monkeypatch.setenv("DVT_ADMIN_KEY", KEY)

    settings = load_settings()
    assert KEY not in f"{settings!r} {settings} {settings.model_dump_json()}"
