"""Virtual time: what a fleet does is worked out event by event, without a network or a clock."""
