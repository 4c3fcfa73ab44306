"""Every algorithm times every property."""
