"""What a stage1 builds on: starting apps into a sandbox, confining them, serving them until the pod ends."""
