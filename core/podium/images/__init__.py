"""Image formats: what a file or folder is, and how it becomes blobs, a manifest and a tree."""
