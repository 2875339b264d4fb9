"""The room of delivery: messages, the buses that carry them, and who takes them in."""
