"""The version of medkeras."""

VERSION = "0.1.0"
