"""The wire: grpc.aio, and the words of the core as messages. Knows no torch and no numpy."""
