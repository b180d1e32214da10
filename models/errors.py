"""The error for an invalid architecture."""


class ConfigError(ValueError):
    """An invalid architecture; the text names the value and the rule it breaks."""


def require(condition: bool, message: str) -> None:
    """Check one rule of an architecture.

    Raises:
        ConfigError: with `message`, when the condition does not hold.
    """
    if not condition:
        raise ConfigError(message)
