"""Blobs, image records and rendered trees."""
