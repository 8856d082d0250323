"""From what lies in a data folder back to a running task, or to any version of it."""
