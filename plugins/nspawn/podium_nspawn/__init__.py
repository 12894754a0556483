"""The nspawn stage1: pods of one or several apps in a container made by systemd-nspawn."""
