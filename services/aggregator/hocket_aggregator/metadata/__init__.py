"""The index of the journal: versions, updates and the status, for people and for clients."""
