"""The App Container specification's manifests (appc 0.8.11), and OCI image configurations converted to them.

Parsed on three levels, each in a room of its own: strict (`image_manifest`, `pod_manifest`), permissive (`lastditch`)
and raw (`salvage`, whose `describe` tries the three in turn).
"""
