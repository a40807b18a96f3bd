"""Durable work: batches, and the queue beneath them."""
