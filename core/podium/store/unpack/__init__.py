"""From archives to files: `streams` decompresses, `tar` reads headers, `extract` makes files, `content` digests.

All of it works on one chunk at a time and within `Limits`; nothing that an archive says is believed.
"""
