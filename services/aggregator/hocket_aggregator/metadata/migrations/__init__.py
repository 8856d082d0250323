"""How the aggregator's tables came to be what they are."""
