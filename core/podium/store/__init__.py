"""Blobs, image records and rendered trees: `store` is the way in."""
