"""JPEG: keeps the segments needed to decode, the first Exif block and the scans; drops data after the image."""

from weights.image_files.errors import ImageTooLargeError, UnreadableImageError

MAX_SEGMENTS = 1024
"""The most segments before the first scan; a profile takes up to 255, and 32 MiB fill 512."""

MAX_SCANS = 64
"""The most scans; encoders write about ten. An empty scan has 80 bytes and costs a pass over all coefficients."""

_START_OF_SCAN = 0xDA
_COMMENT = 0xFE
# JFIF and Adobe segments define the colour space.
_KEPT_APPLICATIONS = (0xE0, 0xEE)
_EXIF = 0xE1
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)


def reduced(data: bytes) -> bytes:
    """The file without profiles, comments, previews and data after the image.

    Raises:
        ImageTooLargeError: more segments or scans than the limit.
        UnreadableImageError: it ends before its first scan.
    """
    kept = [data[:2]]
    has_exif = False
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data):
            raise UnreadableImageError("the JPEG ends before its first scan")
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            return b"".join((*kept, _scans(data, position)))
        if marker in _WITHOUT_LENGTH:
            # 0xFF may be repeated before a marker.
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == _EXIF and not has_exif and data.startswith(b"Exif\0\0", position + 4):
            has_exif = True
            kept.append(data[position:end])
        elif marker in _KEPT_APPLICATIONS or not (0xE0 <= marker <= 0xEF or marker == _COMMENT):
            kept.append(data[position:end])
        position = end
    raise ImageTooLargeError(f"the JPEG has more than {MAX_SEGMENTS} segments before its first scan")


def _scans(data: bytes, start: int) -> bytes:
    # Within a scan, 0xFF is followed by 0 or a restart only, so any other pair is a marker.
    end = data.find(b"\xff\xd9", start)
    scans = data[start:] if end < 0 else data[start : end + 2]
    if (count := scans.count(b"\xff\xda")) > MAX_SCANS:
        raise ImageTooLargeError(f"the JPEG has {count} scans; the limit is {MAX_SCANS}")
    return scans
