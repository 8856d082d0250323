"""The learning: torch, and pure. Chance comes in as a generator, time not at all."""
