"""Updates on their way in: admission, the bytes that have come, and the way to the rules."""
