"""The kvm stage1: pods of one or several apps in a virtual machine with a kernel of its own, run by QEMU."""
