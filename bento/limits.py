"""What one request may hold. In the environment, each is a setting: ECGBEATS_ and its name."""

from __future__ import annotations

from bento.settings import whole as _limit

MAX_FILES = _limit("MAX_FILES", 256)
MAX_FILE_BYTES = _limit("MAX_FILE_BYTES", 4 * 1024**2)
MAX_REQUEST_BYTES = _limit("MAX_REQUEST_BYTES", 32 * 1024**2)
MAX_PIXELS = _limit("MAX_PIXELS", 4_000_000)
# Of all images that are decoded: 10 million are about a second of one core.
MAX_REQUEST_PIXELS = _limit("MAX_REQUEST_PIXELS", 32_000_000)

# Recordings: a record of half an hour with two leads has 2 MB in format 212, 12 MB as CSV.
MAX_RECORD_FILES = _limit("MAX_RECORD_FILES", 32)
MAX_RECORD_FILE_BYTES = _limit("MAX_RECORD_FILE_BYTES", 24 * 1024**2)
# JSON becomes objects of many times its size before anything in it can be looked at.
MAX_JSON_BYTES = _limit("MAX_JSON_BYTES", 8 * 1024**2)
# Of what lies in archives, all together; and how far a file may grow.
MAX_UNPACKED_BYTES = _limit("MAX_UNPACKED_BYTES", 32 * 1024**2)
MAX_UNPACKED_FILES = _limit("MAX_UNPACKED_FILES", 64)
# All leads together: two of an hour and a half at 360 Hz.
MAX_VALUES = _limit("MAX_VALUES", 4_000_000)
MAX_SECONDS = _limit("MAX_SECONDS", 3 * 3600)
MAX_FS = _limit("MAX_FS", 10_000)
MAX_BEATS = _limit("MAX_BEATS", 12_000)
MAX_PICTURES = _limit("MAX_PICTURES", 64)
MAX_FIELD_BYTES = _limit("MAX_FIELD_BYTES", 1024)
# Beats of a request that its line in the log tells of, evenly picked (`bento.observing`); 0 for
# no such line.
LOGGED_BEATS = _limit("LOGGED_BEATS", 64, least=0)
