"""The fly stage1: one app in a bare chroot on the host."""
