"""The sections of a report, one topic a file: each takes the report and returns a section, or None without a matter."""
