"""Snapshots: everything a task has come to, whole or not there, and the blobs it is made of."""
