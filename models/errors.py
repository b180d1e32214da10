"""What is raised for an architecture that cannot be built."""


class ConfigError(ValueError):
    """An architecture that cannot be built; the text names the value and the rule it breaks."""


def require(condition: bool, message: str) -> None:
    """Check one rule of an architecture.

    Raises:
        ConfigError: with `message`, when the condition does not hold.
    """
    if not condition:
        raise ConfigError(message)
