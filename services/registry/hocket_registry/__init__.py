"""The registry: who is alive, what each device can do, what each link carries."""
