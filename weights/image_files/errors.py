"""Why a file is not read. Its text says what was found and what the limit is; who calls says which file."""


class ImageTooLargeError(ValueError):
    """More pixels, or more steps to decode them, than the limit."""


class UnreadableImageError(ValueError):
    """Not a complete image in one of the formats that are read."""
