"""The aggregator: applies each device's update when it comes, and hands out the model."""
