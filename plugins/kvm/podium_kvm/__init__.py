"""The kvm stage1: pods in a virtual machine with a kernel of its own."""
