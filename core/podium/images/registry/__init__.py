"""Images from and to registries (OCI distribution-spec 1.1)."""
