"""What one request may hold."""

MAX_FILES = 256
MAX_FILE_BYTES = 4 * 1024**2
MAX_REQUEST_BYTES = 32 * 1024**2

# Recordings: a record of half an hour with two leads has 2 MB in format 212, 12 MB as CSV.
MAX_RECORD_FILES = 32
MAX_RECORD_FILE_BYTES = 24 * 1024**2
# JSON becomes objects of many times its size before anything in it can be looked at.
MAX_JSON_BYTES = 8 * 1024**2
# Of what lies in archives, all together; and how far a file may grow.
MAX_UNPACKED_BYTES = 32 * 1024**2
MAX_UNPACKED_FILES = 64
# All leads together: two of an hour and a half at 360 Hz.
MAX_VALUES = 4_000_000
MAX_SECONDS = 3 * 3600.0
MAX_FS = 10_000.0
MAX_BEATS = 12_000
MAX_PICTURES = 64
MAX_FIELD_BYTES = 1024
