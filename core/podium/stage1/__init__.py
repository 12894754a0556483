"""Which code is answerable for a pod, and calling exactly that."""
