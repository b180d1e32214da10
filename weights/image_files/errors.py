"""Why a file is refused. The text names what was found and the limit; the caller adds the file's name."""


class ImageTooLargeError(ValueError):
    """More pixels, or more steps to decode them, than the limit."""


class UnreadableImageError(ValueError):
    """Not a complete image in one of the formats that are read."""
