"""All settings, and the only place that reads the environment.

Command line > environment (`DVT_…`) > TOML file named by `DVT_CONFIG_FILE` > default.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from service.engine.cores import usable_cores
from service.errors import ServiceError
from service.keys import KeyRing
from weights.image_files.decode import MAX_PIXELS

PREFIX = "DVT_"
CONFIG_FILE_VARIABLE = f"{PREFIX}CONFIG_FILE"

SECRETS = ("admin_key", "api_key", "config_store")
"""Settings that are never shown; each can be in a file that `DVT_…_FILE` names."""

# What Kubernetes sets for a service whose name begins with `dvt`; some of these are told by their value alone.
_OF_KUBERNETES = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)
_PORT_OF_KUBERNETES = re.compile(r"(tcp|udp|sctp)://\S+:\d+")

# Pillow refuses more than this on its own account; above it our limit would not be the one that holds.
PILLOW_MAX_PIXELS = 89_478_485


class SettingsError(ServiceError):
    """A setting that cannot be used; the text names it and never shows a secret."""


class Settings(BaseSettings):
    """What an operator can set; the README's section "Settings" describes each."""

    # A compose file's `DVT_ADMIN_KEY=${KEY:-}` yields an empty value, which counts as unset.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65535)
    http_workers: int = Field(default=1, ge=0, le=64)
    model: str = Field(default="dvt-photos", min_length=1)
    device: str = Field(default="auto", min_length=1)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cuda_graphs: bool = True
    max_inflight: int = Field(default=512, ge=1)
    max_batch_size: int = Field(default=64, ge=1)
    max_body_bytes: int = Field(default=32 * 2**20, ge=1)
    max_image_pixels: int = Field(default=MAX_PIXELS, ge=1, le=PILLOW_MAX_PIXELS)
    max_images_per_request: int = Field(default=64, ge=1)
    max_connections: int = Field(default=2048, ge=1)  # of one front end
    client_timeout_s: float = Field(default=20.0, gt=0, allow_inf_nan=False)  # to send or take 1 KiB for each second
    decode_threads: int = Field(default_factory=lambda: min(8, usable_cores()), ge=1)
    torch_threads: int | None = Field(default=None, ge=1)  # None leaves one core to HTTP and decoding
    admin_key: SecretStr | None = Field(default=None, min_length=1)
    trust_loopback: bool = False
    api_key: SecretStr | None = Field(default=None, min_length=1)
    config_store: SecretStr | None = Field(default=None, min_length=1)  # None: a file in the user's state folder
    admin_key_file: Path | None = None
    api_key_file: Path | None = None
    config_store_file: Path | None = None
    shed_accuracy_drop: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    max_step_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    drain_delay_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    drain_timeout_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {name: _secret(values, name) for name in SECRETS if values.get(f"{name}_file") is not None}

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("http_host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        # As an IPv6 address has them in a URL.
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @field_validator("admin_key", "api_key")
    @classmethod
    def _check_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            KeyRing.parse(value.get_secret_value(), name="any")
        return value

    @property
    def admin_keys(self) -> KeyRing | None:
        """Who may change the configuration."""
        return None if self.admin_key is None else KeyRing.parse(self.admin_key.get_secret_value(), name="admin")

    @property
    def api_keys(self) -> KeyRing | None:
        """Who may classify."""
        return None if self.api_key is None else KeyRing.parse(self.api_key.get_secret_value(), name="api")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, most important first."""
        assert isinstance(env_settings, EnvSettingsSource)
        env_settings.env_vars = {
            name: value for name, value in env_settings.env_vars.items() if not _is_of_kubernetes(name, value or "")
        }
        config_file = os.environ.get(CONFIG_FILE_VARIABLE)
        if not config_file:
            return init_settings, env_settings
        if not Path(config_file).is_file():
            raise SettingsError(f"{CONFIG_FILE_VARIABLE}: no file at {config_file}")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file)


def load_settings(**command_line: Any) -> Settings:
    """Settings from all sources; a value of None on the command line counts as not given.

    Raises:
        SettingsError: naming every setting that is unknown or outside its range.
    """
    try:
        return Settings(**{name: value for name, value in command_line.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("; ".join(_describe(item) for item in error.errors())) from None
    except ValueError as error:  # TOML that cannot be parsed
        raise SettingsError(f"{CONFIG_FILE_VARIABLE}: {error}") from error


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that nobody reads, so most likely misspelt."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_FILE_VARIABLE}
    return sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and name.upper() not in known and not _is_of_kubernetes(name, value)
    )


def kubernetes_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that are no settings, since Kubernetes set them for a service."""
    return sorted(name for name, value in environment.items() if _is_of_kubernetes(name, value))


def _is_of_kubernetes(name: str, value: str) -> bool:
    name = name.upper()
    if name.startswith(PREFIX) and name.endswith("_PORT") and _PORT_OF_KUBERNETES.fullmatch(value):
        return True
    return _OF_KUBERNETES.fullmatch(name) is not None


def _secret(values: dict[str, Any], name: str) -> str:
    if values.get(name) is not None:
        raise ValueError(f"{name} and {name}_file exclude each other")
    try:
        return Path(values[f"{name}_file"]).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ValueError(f"{name}_file cannot be read: {error}") from error
    except UnicodeDecodeError:
        # Its text quotes a byte of the secret.
        raise ValueError(f"{name}_file does not hold UTF-8 text") from None


def _describe(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if not name:
        return str(item["msg"])
    # The value of an unknown name may be a secret whose name was mistyped.
    hidden = name.startswith(SECRETS) or item["type"] == "extra_forbidden"
    shown = "" if hidden else f", got {item['input']!r}"
    return f"{PREFIX}{name.upper()}: {item['msg']}{shown}"
